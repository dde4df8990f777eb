"""Pieces of task graph that several DAGs share."""

from __future__ import annotations

from typing import Any, NamedTuple

from airflow.sdk import task_group

from operators import tasks
from operators.waiting import Benchmark, WaitReady


class Measured(NamedTuple):
    """Ends of a measured deployment: the benchmark, the recordings (None unless recorded), the teardown."""

    benchmark: Any
    recordings: Any
    given_back: Any


def measured(
    kind: str,
    purpose: str,
    label: str,
    image: Any,
    model_path: Any,
    *,
    record: bool = False,
    placed: bool = False,
    after: Any = (),
) -> Measured:
    """Deploy the form's configuration, benchmark it and give the accelerators back, whatever happens.

    The setup only applies: a setup that fails keeps its teardown from running, so the wait, which may well
    fail, is a task of its own. ``after`` are tasks to wait for.
    """

    @task_group(group_id=kind)
    def group() -> Any:
        applied = tasks.apply.override(task_id="apply")(kind, image, model_path, record=record, placed=placed)
        for earlier in after:
            earlier >> applied
        # The default configuration must run: without it there is nothing to compare with.
        ready = WaitReady(task_id="ready", deployment=applied, must_be_ready=True, stage=kind, pool=tasks.GPU_POOL)
        bench = Benchmark(
            task_id="benchmark",
            deployment=applied,
            waited=ready.output,
            purpose=purpose,
            filed_as=label,
            record=record,
            stage=kind,
            pool=tasks.GPU_POOL,
        )
        back = tasks.delete.override(task_id="delete")(applied).as_teardown(setups=applied, on_failure_fail_dagrun=True)
        recordings = tasks.dump_recordings.override(task_id="dump_recordings")(applied) if record else None
        if recordings is not None:
            bench >> recordings >> back
        bench >> back
        return Measured(benchmark=bench, recordings=recordings, given_back=back)

    result: Any = group()
    return Measured(*result)
