from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest

from tests.unit import postgres


@pytest.fixture(params=["sqlite", "postgresql"])
def study_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty study database, of each kind we support."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/studies.db"
        return
    server: postgres.Server = request.getfixturevalue("postgres_server")
    with server.database() as name:
        yield server.url(name)


@pytest.fixture(scope="session")
def empty_study_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Optuna's tables, made once: making them is what most of a small test's time would go to."""
    file = tmp_path_factory.mktemp("studies") / "studies.db"
    optuna.storages.RDBStorage(f"sqlite:///{file}")
    return file


@pytest.fixture
def url(tmp_path: Path, empty_study_database: Path) -> str:
    shutil.copy(empty_study_database, tmp_path / "studies.db")
    return f"sqlite:///{tmp_path}/studies.db"
