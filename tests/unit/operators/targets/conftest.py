from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from wideloop.manifests.engines import ENGINES
from wideloop.operators.settings import Settings
from wideloop.operators.targets.local.process import end_marked
from wideloop.operators.targets.local.target import LocalTarget

from tests.unit.operators.targets import fake_engine, local_processes


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """Settings of an empty home, with the fake engine and its environment; nothing below it keeps running."""
    monkeypatch.setitem(ENGINES.registered, "fake", fake_engine.FakeEngine)
    settings = Settings(home=tmp_path / "home")
    fake_engine.environment(settings)
    fake_engine.environment(settings, "benchmark")
    yield settings
    end_marked(settings.local, grace_s=0)


@pytest.fixture
def here(home: Settings) -> LocalTarget:
    return LocalTarget(home, grace_s=5, start_timeout_s=30)


@pytest.fixture
def roomy(home: Settings) -> LocalTarget:
    """A target whose host has room for two deployments."""
    return LocalTarget(home.model_copy(update={"local_deployments": 2}), grace_s=5, start_timeout_s=30)


@pytest.fixture
def served(home: Settings, here: LocalTarget, tmp_path: Path) -> LocalTarget:
    """A target with the deployment ``one`` and an environment for clients."""
    here.apply(fake_engine.spec("one", fake_engine.model(tmp_path / "m")), local_processes.OWNER)
    return here
