"""``wideloop export`` as a person calls it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from click.testing import Result
from typer.testing import CliRunner
from wideloop.operators.commands.cli import app
from wideloop.operators.settings import settings
from wideloop.results.store import Store

from tests.unit.results import factory


@pytest.fixture
def store(wideloop_home: Path):
    with Store.open(settings().results_url) as opened:
        yield opened


def export(*options: object) -> Result:
    return CliRunner().invoke(app, ["export", *map(str, options)])


def test_one_cycle_or_all_of_them_are_written(store: Store, tmp_path: Path):
    for name in ("first", "second"):
        factory.seed(store, cycle_id=name)
    done = export("first", "--out", tmp_path / "new" / "one")
    assert done.exit_code == 0, done.stderr
    assert set(pd.read_csv(tmp_path / "new" / "one" / "trials.csv").cycle_id) == {"first"}
    done = export("--all", "--format", "parquet", "--out", tmp_path)
    assert done.exit_code == 0, done.stderr
    assert set(pd.read_parquet(tmp_path / "measurements.parquet").cycle_id) == {"first", "second"}
    assert f"{tmp_path}/trials.parquet: 20 rows, 20 of them SIMULATED (column simulated)" in done.stderr


@pytest.mark.parametrize("options", [[], ["first", "--all"]])
def test_one_of_a_cycle_and_all_must_be_given(store: Store, options: list[str]):
    done = export(*options)
    assert done.exit_code == 2
    assert "must be one cycle, or --all" in done.stderr


def test_an_unknown_cycle_is_refused_with_the_nearest_name(store: Store):
    done = export("frist")
    assert "It has no cycle yet: run wideep_cycle" in done.stderr
    factory.seed(store, cycle_id="first")
    done = export("frist")
    assert done.exit_code == 2
    assert "Did you mean 'first'? The newest are: first" in done.stderr


def test_a_folder_that_cannot_be_written_is_named(store: Store, tmp_path: Path):
    factory.seed(store, cycle_id="first")
    (tmp_path / "file").write_text("no folder")
    done = export("first", "--out", tmp_path / "file" / "below")
    assert done.exit_code == 2
    assert "out = " in done.stderr and "cannot be written (Not a directory)" in done.stderr
