from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.unit import postgres


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
