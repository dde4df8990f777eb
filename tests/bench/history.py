"""What a demo that has ended left in its databases: when its runs, tasks, stages and trials began and ended."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from wideloop.results.records import Stage, Trial
from wideloop.results.store import Store

from tests.bench.overhead import TASKS, Span, TrialTimes
from tests.bench.workspace import BenchError

CYCLE, TRIAL = "wideep_cycle", "wideep_trial"


@dataclass(frozen=True)
class History:
    """One cycle of one home.

    Attributes:
        triggered: when the cycle's run was created.
        run: the cycle's own run.
        stages: of the timeline, in the order they began.
        trials: all of them, the default one included.
        trial_runs: every run of the sweep, in the order they began; repeats are none.
        times: of those trials that started an engine and ran a client.
        retried: tasks of trial runs that were tried more than once.
    """

    triggered: datetime
    run: Span
    stages: tuple[Stage, ...]
    trials: tuple[Trial, ...]
    trial_runs: tuple[Span, ...]
    times: tuple[TrialTimes, ...]
    retried: int

    @property
    def baseline_shown(self) -> datetime:
        """When the baseline's measurement was complete."""
        ends = [s.ended_at for s in self.stages if s.name == "baseline" and s.ended_at]
        if not ends:
            raise BenchError("the cycle has no finished baseline")
        return ends[0]

    @property
    def first_trial(self) -> Trial:
        """The first trial of the sweep's own that was measured."""
        done = [t for t in self.trials if t.state == "complete" and not t.is_default and t.ended_at]
        if not done:
            raise BenchError("the cycle has no measured trial")
        return min(done, key=lambda t: t.ended_at or t.started_at)


def read(home: Path) -> History:
    """The newest cycle of ``home``; nothing in it is changed.

    Raises:
        BenchError: there is no cycle that ended.
    """
    with Store.open(f"sqlite:///{home / 'results.db'}") as store:
        cycles = store.cycles(limit=1)
        if not cycles:
            raise BenchError("the demo has left no cycle")
        cycle = cycles[0]
        stages = tuple(store.stages(cycle.cycle_id))
        trials = tuple(store.trials(cycle_id=cycle.cycle_id))
    database = f"file:{home / 'airflow' / 'airflow.db'}?mode=ro"
    with closing(sqlite3.connect(database, uri=True)) as airflow:
        queued, run = _cycle_run(airflow, cycle.dag_run_id)
        times = tuple(t for trial in trials if (t := trial_times(airflow, trial)) is not None)
        key = (TRIAL, f"{cycle.cycle_id}\\_\\_trial\\_%")
        runs = _trial_runs(airflow, key)
        history = "SELECT count(*) FROM task_instance_history WHERE dag_id = ? AND run_id LIKE ? ESCAPE '\\'"
        retried = airflow.execute(history, key).fetchone()[0]
    return History(queued, run, stages, trials, runs, times, retried)


def _trial_runs(airflow: sqlite3.Connection, key: tuple[str, str]) -> tuple[Span, ...]:
    rows = airflow.execute(
        "SELECT start_date, end_date FROM dag_run WHERE dag_id = ? AND run_id LIKE ? ESCAPE '\\' ORDER BY start_date",
        key,
    )
    return tuple(Span(_moment(began), _moment(ended)) for began, ended in rows if began and ended)


def _cycle_run(airflow: sqlite3.Connection, run_id: str) -> tuple[datetime, Span]:
    row = airflow.execute(
        "SELECT queued_at, start_date, end_date FROM dag_run WHERE dag_id = ? AND run_id = ?", (CYCLE, run_id)
    ).fetchone()
    if row is None or None in row:
        raise BenchError(f"the run {run_id} of {CYCLE} has not ended")
    return _moment(row[0]), Span(_moment(row[1]), _moment(row[2]))


def trial_times(airflow: sqlite3.Connection, trial: Trial) -> TrialTimes | None:
    """The times of a trial's run; None when it started no engine, ran no client, or was no run of its own."""
    if trial.is_default or trial.state != "complete" or not {"start", "client"} <= trial.phases.keys():
        return None
    key = (TRIAL, trial.dag_run_id)
    runs = airflow.execute("SELECT start_date, end_date FROM dag_run WHERE dag_id = ? AND run_id = ?", key)
    rows = airflow.execute(
        "SELECT task_id, start_date, end_date FROM task_instance WHERE dag_id = ? AND run_id = ?", key
    )
    run = runs.fetchone()
    tasks = {task: Span(_moment(began), _moment(ended)) for task, began, ended in rows if began and ended}
    if run is None or None in run or not set(TASKS) <= tasks.keys():
        return None
    span = Span(_moment(run[0]), _moment(run[1]))
    return TrialTimes(trial.number, span, tasks, trial.phases["start"], trial.phases["client"])


def _moment(text: str) -> datetime:
    """Airflow keeps UTC without saying so in SQLite."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
