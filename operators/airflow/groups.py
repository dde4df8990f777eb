"""Pieces of task graph that several DAGs share."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from airflow.sdk import task_group
from wideloop.operators.airflow import tasks
from wideloop.operators.airflow.benchmark import Benchmark
from wideloop.operators.airflow.wait_ready import WaitReady


class Measured(NamedTuple):
    """Ends of a measured deployment: the benchmark, what was collected after it, the teardown.

    ``collected`` are the recordings, or all that an examination found; None where nothing was asked for.
    """

    benchmark: Any
    collected: Any
    given_back: Any


def measured(
    kind: str,
    purpose: str,
    label: str,
    image: Any,
    model_path: Any,
    *,
    record: bool = False,
    collect: Literal["recordings", "examination"] | None = None,
    placed: bool = False,
    repeat: int = 0,
    after: Any = (),
) -> Measured:
    """Deploy the form's configuration, benchmark it and give the accelerators back, whatever happens.

    A setup that fails keeps its teardown from running, so the setup only says the name: whatever becomes of
    applying it, also half of it, is deleted. ``after`` are tasks to wait for.

    Args:
        record: start the recorder with the benchmark. collect: what to take of it afterwards.
        placed: with experts balanced as the form wants it. repeat: number of the measurement among its like.
    """

    @task_group(group_id=kind)
    def group() -> Any:
        named = tasks.name.override(task_id="name")(kind)
        applied = tasks.apply.override(task_id="apply")(kind, image, model_path, record=record, placed=placed)
        # Nothing runs, not even the setup, before what comes earlier has gone well.
        [model_path, *after] >> named >> applied
        # The default configuration must run: without it there is nothing to compare with.
        ready = WaitReady(task_id="ready", deployment=applied, must_be_ready=True, stage=kind, pool=tasks.GPU_POOL)
        bench = Benchmark(
            task_id="benchmark",
            deployment=applied,
            waited=ready.output,
            purpose=purpose,
            filed_as=label,
            repeat=repeat,
            record=record,
            stage=kind,
            pool=tasks.GPU_POOL,
        )
        back = tasks.delete.override(task_id="delete")(named).as_teardown(setups=named, on_failure_fail_dagrun=True)
        collected = _collected(collect, applied)
        if collected is not None:
            bench >> collected >> back
        bench >> back
        return Measured(benchmark=bench, collected=collected, given_back=back)

    result: Any = group()
    return Measured(*result)


def _collected(collect: Literal["recordings", "examination"] | None, deployment: Any) -> Any:
    if collect is None:
        return None
    if collect == "recordings":
        return tasks.dump_recordings.override(task_id="dump_recordings")(deployment)
    return tasks.examine.override(task_id="examine")(deployment)
