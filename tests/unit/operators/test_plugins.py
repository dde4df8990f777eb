"""Another package offers an engine and a target by entry points, and both are used like those that ship."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from wideloop.manifests.engines import engine_names, get_engine
from wideloop.manifests.registry import installed_entry_points
from wideloop.operators.request import Request
from wideloop.operators.targets import configured_targets, open_target, target_names

_MODULE = """
from wideloop.operators.targets.local.target import LocalTarget
from wideloop.tuning.simulator.engine import SimulatedEngine

class TheirEngine(SimulatedEngine):
    name = "theirs"

class TheirTarget(LocalTarget):
    name = "their-cluster"

    @classmethod
    def is_configured(cls, settings):
        return False
"""
_ENTRY_POINTS = """[wideloop.engines]
theirs = their_package:TheirEngine

[wideloop.targets]
their-cluster = their_package:TheirTarget
"""


@pytest.fixture
def their_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "their_package.py").write_text(_MODULE)
    metadata = tmp_path / "their_package-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(_ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    installed_entry_points.cache_clear()
    yield
    sys.modules.pop("their_package", None)
    installed_entry_points.cache_clear()


@pytest.mark.usefixtures("their_package", "wideloop_home")
def test_an_installed_package_adds_an_engine_and_a_target() -> None:
    assert "theirs" in engine_names() and "their-cluster" in target_names()
    request = Request.from_params({"engine": "theirs", "target": "their-cluster"})
    spec = request.spec("d")
    assert (spec.engine, spec.target) == ("theirs", "their-cluster")
    assert get_engine(spec.engine).validate(spec) == []
    assert open_target(spec.target).list_owned() == []
    assert configured_targets() == ("local",)
