"""The controller of a sweep, between a real study and DAG runs that the test lets end as it likes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from wideloop.operators.steps.plan import plan
from wideloop.operators.steps.run import open_store

from tests.unit.operators.steps.measured import CYCLE, PARAMS, baseline

TRIALS = PARAMS["trials"] - 1  # the baseline is one of them
CONTEXT: Any = {"params": PARAMS, "dag_run": SimpleNamespace(dag_id=CYCLE.dag_id, run_id=CYCLE.run_id)}


class Runs:
    """The runs of wideep_trial: what Airflow would tell of them."""

    def __init__(self) -> None:
        self.states: dict[str, str] = {}
        self.conf: dict[str, dict[str, Any]] = {}
        self.paused = False

    def start(self, dag_id: str, run_id: str, conf: dict[str, Any]) -> bool:
        assert dag_id == "wideep_trial" and run_id not in self.states, f"{run_id} was started twice"
        self.states[run_id], self.conf[run_id] = "queued", conf
        return True

    def end(self, state: str) -> None:
        """The run that was started first and has not ended, ends."""
        first = next(r for r, s in self.states.items() if s == "queued")
        self.states[first] = state


@pytest.fixture
def runs(wideloop_home: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    from wideloop.operators.airflow import dag_runs

    found = Runs()
    monkeypatch.setattr(dag_runs, "start", found.start)
    monkeypatch.setattr(dag_runs, "state", lambda dag_id, run_id: found.states.get(run_id))
    monkeypatch.setattr(dag_runs, "is_paused", lambda dag_id: found.paused)
    plan(PARAMS, CYCLE)
    baseline()
    return found


@pytest.fixture
def controller() -> Any:
    from wideloop.operators.airflow.sweep import RunTrials

    return RunTrials(task_id="tune", what="trials", image="sha256:1", model_path="/models/m")


def wakes(call: Callable[[], None]) -> Any:
    """What the controller sleeps on; None when it has ended."""
    from airflow.sdk.exceptions import TaskDeferred

    try:
        call()
    except TaskDeferred as deferred:
        return deferred.trigger
    return None


def stage_state() -> str:
    with open_store() as store:
        return next(s.state for s in store.stages(CYCLE.cycle_id) if s.name == "tune")


def test_it_starts_one_run_and_queues_one_behind_it(runs: Runs, controller: Any) -> None:
    trigger = wakes(lambda: controller.execute(CONTEXT))
    assert len(runs.states) == 2
    assert trigger.run_ids == [next(iter(runs.states))]
    assert stage_state() == "running"
    conf = next(iter(runs.conf.values()))
    own = {"cycle_id": CYCLE.cycle_id, "image": "sha256:1", "model_path": "/models/m"}
    assert conf == {**PARAMS, **own}


def test_it_ends_when_every_run_has_ended(runs: Runs, controller: Any) -> None:
    assert wakes(lambda: controller.execute(CONTEXT))
    for left in reversed(range(TRIALS)):
        runs.end("success")
        sleeping = wakes(lambda: controller.execute_complete(CONTEXT, {})) is not None
        assert sleeping == (left > 0)
    assert len(runs.states) == TRIALS and stage_state() == "success"


def test_one_that_lost_its_memory_goes_on_where_it_was(runs: Runs, controller: Any) -> None:
    wakes(lambda: controller.execute(CONTEXT))
    runs.end("success")
    wakes(lambda: controller.execute(CONTEXT))  # a retry begins from the start; Runs refuses second starts
    assert list(runs.states.values()).count("queued") == 2


def test_a_failed_run_brings_a_spare_and_the_sweep_still_ends(runs: Runs, controller: Any) -> None:
    wakes(lambda: controller.execute(CONTEXT))
    outcomes = ["failed"] + ["success"] * TRIALS
    for left, outcome in reversed(list(enumerate(reversed(outcomes)))):
        runs.end(outcome)
        sleeping = wakes(lambda: controller.execute_complete(CONTEXT, {})) is not None
        assert sleeping == (left > 0)
    assert len(runs.states) == TRIALS + 1


def test_when_one_run_after_the_other_fails_it_gives_up_at_once(runs: Runs, controller: Any) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    wakes(lambda: controller.execute(CONTEXT))
    for _ in range(2):
        runs.end("failed")
        assert wakes(lambda: controller.execute_complete(CONTEXT, {}))
    runs.end("failed")
    with pytest.raises(AirflowFailException, match="the last 3 runs"):
        controller.execute_complete(CONTEXT, {})
    assert stage_state() == "failed"


def test_it_does_not_wait_for_runs_that_can_never_start(runs: Runs, controller: Any) -> None:
    runs.paused = True
    with pytest.raises(Exception, match="wideep_trial is paused"):
        controller.execute(CONTEXT)
    assert runs.states == {}
