"""On what the artefact store of a run lies: Airflow's object storage where Airflow is installed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from wideloop.operators.steps import run


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    run._object_storage.cache_clear()
    yield
    run._object_storage.cache_clear()


def test_where_airflow_is_installed_its_connections_can_be_named(wideloop_home: Path) -> None:
    run.artefacts().put_json({"a": 1}, "x.json")
    assert run._object_storage().__module__ == "wideloop.operators.airflow.object_storage"
    assert (wideloop_home / "artefacts" / "x.json").is_file()


def test_without_airflow_the_same_url_is_opened(wideloop_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "airflow.sdk", None)
    monkeypatch.delitem(sys.modules, "wideloop.operators.airflow.object_storage", raising=False)
    run.artefacts().put_json({"a": 1}, "x.json")
    assert run._object_storage().__module__.startswith("upath")
    assert (wideloop_home / "artefacts" / "x.json").is_file()
