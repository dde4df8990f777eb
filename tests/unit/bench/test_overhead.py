"""The arithmetic of a trial's overhead, on times that a demo of eight trials recorded."""

import json
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from wideloop.results.records import Cycle, Stage, Trial
from wideloop.results.store import Store

from tests.bench import demo, history, overhead
from tests.bench.figure import Figure
from tests.bench.history import History
from tests.bench.overhead import Span, TrialTimes
from tests.bench.workspace import BenchError

DATA = Path(__file__).parent / "data" / "demo.json"
START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home whose databases hold what was recorded, in the columns that are read."""
    recorded: dict[str, Any] = json.loads(DATA.read_text())
    (tmp_path / "airflow").mkdir()
    with sqlite3.connect(tmp_path / "airflow" / "airflow.db") as airflow:
        airflow.execute("CREATE TABLE dag_run (dag_id, run_id, queued_at, start_date, end_date)")
        airflow.execute("CREATE TABLE task_instance (dag_id, run_id, task_id, start_date, end_date)")
        airflow.execute("CREATE TABLE task_instance_history (dag_id, run_id, task_id)")
        airflow.executemany("INSERT INTO dag_run VALUES (?, ?, ?, ?, ?)", recorded["dag_run"])
        airflow.executemany("INSERT INTO task_instance VALUES (?, ?, ?, ?, ?)", recorded["task_instance"])
        retried = ("wideep_trial", f"{recorded['cycle_id']}__trial_003", "ask_study")
        repeat = ("wideep_trial", f"{recorded['cycle_id']}__repeat_00_best", "ask_study")
        airflow.executemany("INSERT INTO task_instance_history VALUES (?, ?, ?)", [retried, repeat])
    airflow.close()
    cycle_id = recorded["cycle_id"]
    with Store.open(f"sqlite:///{tmp_path / 'results.db'}") as store:
        store.put(
            Cycle(
                cycle_id=cycle_id, dag_id="wideep_cycle", dag_run_id=recorded["dag_run_id"], title="t",
                state="success", engine="simulated", target="local", simulated=True, model="m", hardware="h",
                request={}, started_at=START,
            )
        )  # fmt: skip
        store.put(*(Trial(study=cycle_id, cycle_id=cycle_id, point={}, knobs={}, **t) for t in recorded["trial"]))
        store.put(*(Stage(cycle_id=cycle_id, **s) for s in recorded["stage"]))
    return tmp_path


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def made_up(**changes: Any) -> TrialTimes:
    tasks = {
        "ask_study": Span(at(1), at(3)),
        "apply_deployment": Span(at(4), at(5)),
        "wait_until_ready": Span(at(6), at(9)),
        "benchmark": Span(at(10), at(31)),
        "tell_study": Span(at(32), at(36)),
        "delete_deployment": Span(at(33), at(34)),
    }
    values: dict[str, Any] = {"number": 1, "run": Span(at(0), at(38)), "tasks": tasks, "start_s": 4.5, "client_s": 20}
    return TrialTimes(**values | changes)


def test_each_part_counts_what_it_says() -> None:
    assert overhead.breakdown(made_up()) == {
        "ask": 2.0,
        "apply and ready beyond the engine's start": 0.5,
        "benchmark beyond the client": 1.0,
        "tell and delete side by side": 4.0,
        # before ask, after ask, after ready, after benchmark, after the last task
        "waiting for the scheduler between tasks": 1.0 + 1.0 + 1.0 + 1.0 + 2.0,
    }


def test_the_parts_add_up_to_the_overhead_of_every_recorded_trial(home: Path) -> None:
    times = history.read(home).times
    assert [t.number for t in times] == [1, 2, 5, 6, 7]
    for trial in times:
        assert sum(overhead.breakdown(trial).values()) == pytest.approx(trial.overhead_s)
        assert min(overhead.breakdown(trial).values()) > 0


def test_a_recorded_trial_has_the_overhead_worked_out_by_hand(home: Path) -> None:
    first = history.read(home).times[0]
    assert first.overhead_s == pytest.approx(25.610133 - 1.898407 - 19.359039, abs=1e-5)


def test_what_measured_nothing_is_left_out_and_said(home: Path) -> None:
    past = history.read(home)
    median, largest, run, gap = overhead.figures(past.times, past.trial_runs, past.retried)
    assert "over 5 trials (2 runs that measured nothing left out, 1 tasks retried)" in median.made_of
    assert largest.made_of.startswith("trial 7: ask 10.2 s")
    assert median.value == sorted(t.overhead_s for t in past.times)[2]
    assert (median.met, largest.met, run.met) == (True, False, None)
    assert gap.value == pytest.approx(0.547, abs=0.01)
    assert gap.made_of.startswith("median of 6")


def test_minutes_count_from_the_start_of_the_command(home: Path) -> None:
    past = history.read(home)
    memory = Figure("m", None, 1.0, "GiB", "")
    run = demo.DemoRun(past.triggered - timedelta(seconds=25), past.run.end + timedelta(seconds=7), memory, left=0)
    fresh, warm, first, baseline = demo.minutes(run, past, build_s=120.0)
    assert warm.value == pytest.approx((25 + 349.32 + 7) / 60, abs=0.001)
    assert fresh.value == pytest.approx(warm.value + 2)
    assert first.value == pytest.approx((25 + 63.769) / 60, abs=0.001)
    assert baseline.value == pytest.approx((25 + 33.871) / 60, abs=0.001)
    assert "8 trials with the default one, 6 of them measured" in warm.made_of
    assert "triggered 25 s, image 0 s, weights 0 s, baseline 28 s" in warm.made_of
    assert warm.made_of.endswith("after the cycle until nothing runs any more 7 s")


def test_a_cycle_that_goes_on_is_not_measured(home: Path) -> None:
    with sqlite3.connect(home / "airflow" / "airflow.db") as airflow:
        airflow.execute("UPDATE dag_run SET end_date = NULL WHERE dag_id = 'wideep_cycle'")
    airflow.close()
    with pytest.raises(BenchError, match="has not ended"):
        history.read(home)


def test_a_cycle_without_a_measured_trial_says_so() -> None:
    empty = History(START, Span(START, START), (), (), (), (), 0)
    with pytest.raises(BenchError, match="no measured trial"):
        _ = empty.first_trial
    with pytest.raises(BenchError, match="no finished baseline"):
        _ = empty.baseline_shown
