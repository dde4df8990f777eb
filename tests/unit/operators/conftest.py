from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from wideloop.operators.settings import settings


@pytest.fixture
def wideloop_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty home that everything in this process uses, and Airflow's own, should something import that."""
    for name in ("RESULTS_URL", "STUDY_URL", "ARTEFACTS_URL"):
        monkeypatch.delenv(f"WIDELOOP_{name}", raising=False)
    home = tmp_path / "wideloop"
    home.mkdir()
    monkeypatch.setenv("WIDELOOP_HOME", str(home))
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "airflow"))
    settings.cache_clear()
    yield home
    settings.cache_clear()
