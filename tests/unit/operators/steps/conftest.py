from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from wideloop.operators.settings import settings
from wideloop.operators.steps.plan import plan

from tests.unit.operators.steps.measured import CYCLE, PARAMS


@pytest.fixture(scope="session")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the databases of a cycle that was planned: making them anew would be most of a test's time."""
    home = tmp_path_factory.mktemp("planned")
    before = os.environ.get("WIDELOOP_HOME")
    os.environ["WIDELOOP_HOME"] = str(home)
    settings.cache_clear()
    try:
        plan(PARAMS, CYCLE)
    finally:
        os.environ.pop("WIDELOOP_HOME") if before is None else os.environ.update(WIDELOOP_HOME=before)
        settings.cache_clear()
    return home


@pytest.fixture
def cycle(wideloop_home: Path, planned: Path) -> Path:
    """The home of a cycle that was planned and of which nothing has run."""
    for file in planned.glob("*.db*"):
        shutil.copy(file, wideloop_home)
    return wideloop_home
