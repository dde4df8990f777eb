"""Kill processes in the middle of things: what is left is a finished or cleanly failed run, and nothing else."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

import psutil
import pytest

from tests.airflow_server import SMALL, AirflowServer
from tests.e2e.accounts import Sweep

pytestmark = pytest.mark.e2e


def test_an_engine_killed_twice_in_the_baseline_ends_the_cycle_cleanly(airflow: AirflowServer) -> None:
    """Killed once, it is started and measured once more."""
    run = airflow.run("wideep_cycle", **SMALL)
    deployment = airflow.until(lambda: airflow.benchmarking("baseline-"), 120, "the baseline's benchmark")
    first = airflow.engine_process(deployment, "prefill-0")
    first.kill()

    def again() -> bool:
        with suppress(OSError, psutil.Error, IndexError):  # It is being removed, or started.
            return bool(airflow.benchmarking("baseline-")) and airflow.engine_process(deployment, "prefill-0") != first
        return False

    airflow.until(again, 180, "the second benchmark of the baseline")
    airflow.engine_process(deployment, "prefill-0").kill()
    airflow.wait("wideep_cycle", run, 120, expect="failed")
    assert "prefill-0: ended with signal 9" in airflow.log("wideep_cycle", run, "baseline.benchmark")
    assert airflow.states("wideep_cycle", run)["baseline.delete_deployment"] == "success"
    sweep = Sweep.of(airflow, "wideep_cycle", run)
    assert (sweep.cycle.state, sweep.trials, sweep.measurements) == ("failed", [], [])
    with airflow.store() as store:
        stages = {s.name: s for s in store.stages(sweep.cycle.cycle_id)}
    assert {name: s.state for name, s in stages.items()} == {
        "image": "success", "weights": "success", "baseline": "failed"
    }  # fmt: skip
    assert "prefill-0" in stages["baseline"].detail
    assert airflow.left_behind() == []


def test_a_process_killed_in_a_trial_costs_at_most_that_trial(airflow: AirflowServer) -> None:
    """First the engine, whose point is asked for again. Then, in a trial each, the task's own process, which Airflow
    notices at once, and the executor's worker above it, which is noticed when its heartbeat stays away (and leaves
    the task an orphan): both find their load generator again."""
    # Without the point beyond the edge of memory, which is never measured.
    run = airflow.run("wideep_tune", **SMALL | {"max_mem_fraction": 0.9})
    deployment = airflow.until(airflow.benchmarking, 120, "a benchmark")
    airflow.engine_process(deployment, "decode-0").kill()
    airflow.until(lambda: airflow.target.status(deployment).state == "absent", 120, "the end of what was killed")
    for victim in ("task", "supervisor"):
        deployment = airflow.until(airflow.benchmarking, 120, "a benchmark")
        trial = airflow.running("wideep_trial")
        airflow.task_processes("wideep_trial", trial, "benchmark")[victim].kill()
        clients = set()

        def ended(deployment: str = deployment, trial: str = trial, clients: set[str | None] = clients) -> bool:
            clients.add(airflow.client(deployment))
            return airflow.api.run_state("wideep_trial", trial) == "success"

        airflow.until(ended, 180, f"the end of {trial}")
        assert len(clients - {None}) == 1, "a second load generator was started"
        assert airflow.attempts("wideep_trial", trial, "benchmark") == 2
    airflow.wait("wideep_tune", run)
    sweep = Sweep.of(airflow, "wideep_tune", run)
    sweep.check(planned=2, failed=1)
    (failed,) = (t for t in sweep.trials if t.state == "failed")
    again = [t.point for t in sweep.trials if t is not failed] + sweep.waiting
    assert failed.point in again
    assert "decode-0" in airflow.log("wideep_trial", failed.dag_run_id, "benchmark")
    assert airflow.left_behind() == []


def test_airflow_killed_in_a_trial_goes_on_after_a_restart(airflow: AirflowServer) -> None:
    run = airflow.run("wideep_cycle", **SMALL)
    deployment = airflow.until(airflow.benchmarking, 180, "the benchmark of a trial")
    client = airflow.client(deployment)
    airflow.kill()
    killed = datetime.now(UTC)
    assert [owned.name for owned in airflow.target.list_owned()] == [deployment], "engines outlive Airflow"
    airflow.start()
    clients = {client}
    airflow.until(
        lambda: clients.add(airflow.client(deployment)) or airflow.target.status(deployment).state == "absent",
        180, "the end of the trial"
    )  # fmt: skip
    assert clients - {None} == {client}, "the load generator that went on was not found again"
    airflow.wait("wideep_cycle", run)
    sweep = Sweep.of(airflow, "wideep_cycle", run)
    sweep.check(planned=2)
    assert sweep.cycle.state == "success"
    # What was finished before was not measured again, and the rest was measured after.
    baseline = [m for m in sweep.measurements if m.purpose == "baseline"]
    assert [m.ended_at < killed for m in baseline] == [True]
    assert airflow.left_behind() == []
