"""Tests that share an Airflow or a control plane run in one process; all others are spread by file."""

from __future__ import annotations

import re
from pathlib import Path

from wideloop.operators.bootstrap import PROJECT

from tests.streams import stream

TESTS = PROJECT / "tests"


def users(fixture: str, folder: Path) -> set[str]:
    """Test files below ``folder`` in which a test or a fixture takes ``fixture``."""
    takes = re.compile(rf"def \w+\([^)]*\b{fixture}\b", re.DOTALL)
    return {str(file.relative_to(PROJECT)) for file in folder.rglob("test_*.py") if takes.search(file.read_text())}


def test_one_airflow_serves_every_test_of_pages_and_dags() -> None:
    files = users("airflow", TESTS / "e2e") | users("airflow", TESTS / "browser")
    assert len(files) > 3
    assert {stream(f"{file}::test_one") for file in files} == {"airflow"}


def test_one_control_plane_serves_every_test_of_the_cluster() -> None:
    assert {stream(f"tests/cluster/{file.name}::test_one") for file in TESTS.glob("cluster/test_*.py")} == {"cluster"}


def test_other_files_are_spread_one_by_one() -> None:
    assert stream("tests/unit/tuning/test_space.py::test_one[a::b]") == "tests/unit/tuning/test_space.py"
    assert stream("tests/browser/test_results_page.py::test_one") == "tests/browser/test_results_page.py"
