from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # factory and postgres: helpers of these tests only

import postgres

from results.store import Store


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Server]:
    bin_dir = postgres.binaries()
    if bin_dir is None:
        reason = "no PostgreSQL server binaries (initdb) on PATH or under /usr/lib/postgresql"
        if os.environ.get("CI"):
            pytest.fail(f"{reason}; CI must test PostgreSQL: apt-get install postgresql")
        pytest.skip(reason)
    with postgres.server(bin_dir) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty results database, of each kind we support."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/results.db"
        return
    server: postgres.Server = request.getfixturevalue("postgres_server")
    with server.database() as name:
        yield server.url(name)


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with Store.open(url) as opened:
        yield opened


@pytest.fixture
def sqlite_store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(f"sqlite:///{tmp_path}/results.db") as opened:
        yield opened
