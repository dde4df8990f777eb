"""Runs that an earlier demo left unfinished. Their engines ended with that demo, so the runs cannot continue: they are
marked as failed, in Airflow and on the results page, before another cycle starts."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

from wideloop.operators.commands.demo.api import AirflowApi
from wideloop.operators.commands.demo.errors import DemoError
from wideloop.results.airflow_names import CYCLE, TRIAL

_WHY = "the demo was ended in the middle of it"


def end_interrupted(api: AirflowApi, timeout_s: float = 180.0) -> int:
    """Fail every unfinished cycle, then every unfinished trial run; returns how many there were.

    Raises:
        DemoError: one did not end within ``timeout_s`` seconds.
    """
    # The cycle first: it would start another trial for one that failed.
    left = [(dag, run, conf) for dag in (CYCLE, TRIAL) for run, conf in api.unfinished_runs(dag)]
    for dag, run, conf in left:
        api.fail(dag, run)
        _close_page(dag, run, conf)
    deadline = time.monotonic() + timeout_s
    for dag, run, _ in left:
        while (state := api.run_state(dag, run)) not in ("success", "failed"):
            if time.monotonic() > deadline:
                raise DemoError(f"the interrupted run {run} of {dag} does not end; it is {state}")
            time.sleep(1)
        if state == "success":
            # Airflow counts skipped tasks and a successful teardown as success, so the run's state is set again.
            api.fail(dag, run)
    return len(left)


def _close_page(dag: str, run_id: str, conf: dict[str, Any]) -> None:
    """Mark the unfinished records of the results page as failed, so that none appears to run."""
    from wideloop.operators.steps.close import CycleFailed, close
    from wideloop.operators.steps.run import Run, end_stage, open_store
    from wideloop.operators.steps.sweep import settle

    run = Run(dag_id=dag, run_id=run_id, for_cycle=conf.get("cycle_id"))
    if dag == TRIAL:
        settle(conf, run, [run_id])
    if run.for_cycle is not None:
        return
    with open_store() as store:
        running = [stage.name for stage in store.stages(run.cycle_id) if stage.state == "running"]
    for name in running:
        end_stage(run, name, "failed", _WHY)
    with suppress(CycleFailed):
        close(run, ["interrupted"])
