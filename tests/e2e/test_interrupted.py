"""What Ctrl-C in the demo does to a cycle, and what the next demo does about it."""

from __future__ import annotations

import pytest
from wideloop.operators.commands.demo.interrupted import end_interrupted
from wideloop.operators.settings import settings

from tests.airflow_server import SMALL, STORES, AirflowServer

pytestmark = pytest.mark.e2e


def test_an_interrupted_cycle_is_marked_failed_everywhere(
    airflow: AirflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a trial, when there are two runs to end: the cycle's, and one with a deployment and its teardown."""
    run = airflow.run("wideep_cycle", **SMALL)
    airflow.until(lambda: airflow.benchmarking("trial-"), 180, "a benchmark")
    airflow.stop()  # as Ctrl-C does: Airflow first, then the engines
    assert airflow.left_behind() == []
    airflow.start()
    monkeypatch.setenv("WIDELOOP_HOME", str(airflow.settings.home))
    for name in STORES:
        monkeypatch.setenv(f"WIDELOOP_{name}", getattr(airflow.settings, name.lower()))
    settings.cache_clear()
    try:
        assert end_interrupted(airflow.api) == 2
        assert end_interrupted(airflow.api) == 0
    finally:
        settings.cache_clear()
    assert airflow.api.run_state("wideep_cycle", run) == "failed"
    for dag in ("wideep_cycle", "wideep_trial"):
        assert airflow.api.unfinished_runs(dag) == []
    with airflow.store() as store:
        (cycle,) = (c for c in store.cycles() if c.dag_run_id == run)
        assert cycle.state == "failed"
        assert {s.name: s.state for s in store.stages(cycle.cycle_id) if s.state == "running"} == {}
        assert [t.number for t in store.trials(cycle_id=cycle.cycle_id) if t.state == "running"] == []
    assert airflow.left_behind() == []
