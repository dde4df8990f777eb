"""Start and watch other DAG runs from inside a task, and read this run's own task states.

Tasks reach Airflow's database only through their supervisor. The request types used here are not part
of the documented SDK (TriggerDagRunOperator uses them through an exception that can start one run only),
so this is the one module that knows them.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk.execution_time.comms import ErrorResponse, TriggerDagRun
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

#: Final states of a run.
FINISHED = ("success", "failed")
_FAILED_TASKS = ("failed", "upstream_failed")


def start(dag_id: str, run_id: str, conf: dict[str, Any]) -> bool:
    """Start a run unless it exists; returns whether it was started now.

    Raises:
        RuntimeError: Airflow refused (no such DAG, conf against the params' schema).
    """
    from airflow.sdk.exceptions import ErrorType
    from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS

    answer = SUPERVISOR_COMMS.send(TriggerDagRun(dag_id=dag_id, run_id=run_id, conf=conf, reset_dag_run=False))
    if isinstance(answer, ErrorResponse):
        if answer.error == ErrorType.DAGRUN_ALREADY_EXISTS:
            return False
        raise RuntimeError(f"Airflow refused to start {run_id} of {dag_id}: {answer.error} {answer.detail}")
    return True


def state(dag_id: str, run_id: str) -> str | None:
    """The state of a run, None when there is none."""
    if not RuntimeTaskInstance.get_dr_count(dag_id=dag_id, run_ids=[run_id]):
        return None
    answer = RuntimeTaskInstance.get_dagrun_state(dag_id=dag_id, run_id=run_id)
    # An enum of the API client whose str() is not its value, whatever the annotation says.
    return str(getattr(answer, "value", answer))


def is_live(dag_id: str, run_id: str) -> bool:
    """Whether a run is queued or running."""
    return state(dag_id, run_id) in ("queued", "running")


def is_paused(dag_id: str) -> bool:
    """Whether a DAG is paused, so that its runs would stay queued."""
    return bool(RuntimeTaskInstance.get_dag(dag_id).is_paused)


def failed_tasks(dag_id: str, run_id: str) -> list[str]:
    """Tasks of a run that failed: first those that failed themselves, then those that could not start."""
    states = RuntimeTaskInstance.get_task_states(dag_id=dag_id, run_ids=[run_id]).get(run_id, {})
    return sorted((t for t, s in states.items() if s in _FAILED_TASKS), key=lambda t: _FAILED_TASKS.index(states[t]))
