"""Trials and measurements as DataFrames, and the files that they make."""

from __future__ import annotations

import builtins
import contextlib
import io
import json
import re
from pathlib import Path

import pandas as pd
import pytest
from wideloop.operators.settings import settings
from wideloop.results import frames
from wideloop.results.store import Store
from wideloop.results.telemetry import GpuFigures, LevelTelemetry

from tests.unit.results import factory

DOCS = Path(__file__).parents[3] / "docs" / "results.md"


@pytest.fixture
def two_cycles(sqlite_store: Store) -> Store:
    """A simulated cycle, and one that was measured on hardware."""
    factory.seed(sqlite_store, cycle_id="first")
    factory.seed(sqlite_store, cycle_id="second", simulated=False, started_at=factory.T0 + pd.Timedelta(days=1))
    return sqlite_store


def test_a_trial_is_a_row_with_its_knobs_and_constraints_in_columns(two_cycles: Store):
    frame = frames.trials(two_cycles, "first")
    assert len(frame) == len(factory.SWEEP)
    best = frame[frame.number == factory.BEST].iloc[0]
    assert best["knobs.decode.mem_fraction_static"] == 0.86
    assert best["value"] == 287.3
    assert best["concurrency"] == 32
    assert best["constraints.ttft_p99"] < 0
    assert best["phases.benchmark"] == 15.8
    lost = frame[frame.state == "infeasible"]
    assert lost["value"].isna().all() and lost["concurrency"].isna().all()


def test_a_measurement_is_a_row_with_its_figures_per_gpu_and_its_failed_gates(two_cycles: Store):
    bad = factory.measurement(factory.cycle("first"), label="late", gates=[
        {"name": "client_delay", "value": 0.12, "limit": 0.1, "ok": False, "meaning": "the client kept up"},
        {"name": "errors", "value": 0.3, "limit": 0.01, "ok": False, "meaning": "few failed"},
    ])  # fmt: skip
    two_cycles.put(bad)
    frame = frames.measurements(two_cycles, "first").set_index("label")
    late = frame.loc["late"]
    assert (late["valid"], late["gates_failed"]) == (False, "client_delay; errors")
    assert late["output_tok_s_per_gpu"] == pytest.approx(bad.output_tok_s_per_gpu)
    assert late["output_tok_s_se"] == 21.7
    assert frame.loc["default", "valid"].all()


def test_without_a_cycle_all_cycles_are_there_and_every_row_says_whether_it_is_simulated(two_cycles: Store):
    for frame in (frames.trials(two_cycles), frames.measurements(two_cycles)):
        assert dict(frame.groupby("cycle_id").simulated.unique().map(list)) == {"first": [True], "second": [False]}


def test_an_empty_store_gives_frames_with_their_columns(sqlite_store: Store):
    assert {"study", "number", "value", "simulated"} <= set(frames.trials(sqlite_store).columns)
    assert {"concurrency", "output_tok_s_se", "valid", "simulated"} <= set(frames.measurements(sqlite_store).columns)


def test_times_are_utc_and_a_number_that_may_be_unknown_stays_an_integer(two_cycles: Store):
    frame = frames.trials(two_cycles)
    assert str(frame.started_at.dt.tz) == "UTC"
    assert str(frame.concurrency.dtype) == "Int64"


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_file_holds_what_the_frame_holds(two_cycles: Store, tmp_path: Path, form: frames.Format):
    # A list, and text beside numbers, in one knob: columns of Parquet have one type.
    sizes = factory.trial(factory.cycle("first"), 1, knobs={"decode": {"graph_sizes": [8, 16], "chunk": "auto"}})
    two_cycles.put(sizes, factory.trial(factory.cycle("first"), 2, knobs={"decode": {"chunk": 512}}))
    for frame in (frames.trials(two_cycles), frames.measurements(two_cycles)):
        file = tmp_path / f"frame.{form}"
        frames.write(frame, file, form)
        again = pd.read_csv(file) if form == "csv" else pd.read_parquet(file)
        assert list(again.columns) == list(frame.columns)
        assert again.simulated.tolist() == frame.simulated.tolist()
        assert len(again) == len(frame)
    knobs = frames.trials(two_cycles, "first").set_index("number")
    assert knobs["knobs.decode.graph_sizes"].dropna().to_dict() == {1: "[8, 16]"}
    assert knobs["knobs.decode.chunk"].dropna().to_dict() == {1: "auto", 2: "512"}


def test_parquet_without_its_library_names_what_to_install(
    two_cycles: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    real = builtins.__import__

    def absent(name: str, *args: object, **more: object) -> object:
        if name == "pyarrow":
            raise ImportError(name)
        return real(name, *args, **more)  # type: ignore[arg-type]

    frame = frames.trials(two_cycles)
    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(frames.MissingLibrary, match=r"install wideloop\[parquet\], or use the format csv"):
        frames.write(frame, tmp_path / "frame.parquet", "parquet")


def test_the_example_of_the_documentation_runs(two_cycles: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WIDELOOP_RESULTS_URL", two_cycles.url)
    settings.cache_clear()
    try:
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            for block in re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.S):
                exec(block, {})
        assert "287.3" in output.getvalue()
    finally:
        settings.cache_clear()


def test_telemetry_is_one_column_per_figure_where_gpus_were_sampled(sqlite_store: Store) -> None:
    owner = factory.seed(sqlite_store)
    assert not [c for c in frames.measurements(sqlite_store).columns if c.startswith("telemetry")]
    gpus = [GpuFigures(gpu=f"GPU-{i}", host="n", readings=9, power_w=500.0) for i in range(2)]
    telemetry = LevelTelemetry(seconds=10, gpus=tuple(gpus), utilisation=0.9, power_w=1000)
    sqlite_store.put(factory.measurement(owner, label="sampled", gpu_power_w=1000, telemetry=telemetry))
    frame = frames.measurements(sqlite_store).set_index("label")
    assert frame["telemetry.utilisation"]["sampled"] == 0.9
    assert json.loads(frame["telemetry.gpus"]["sampled"])[1]["gpu"] == "GPU-1"
    assert frame["gpu_power_w"].notna().sum() == 1
