"""From Airflow's task context to what the steps take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import Context
    from wideloop.operators.steps.run import Run


def params_of(context: Context) -> dict[str, Any]:
    """The run's params, validated by their schema, with defaults filled in."""
    return dict(context["params"])


def run_of(context: Context) -> Run:
    """Who this task works for: its own run, or the cycle that started it."""
    from wideloop.operators.steps.run import Run

    dag_run = context["dag_run"]
    return Run(dag_id=dag_run.dag_id, run_id=dag_run.run_id, for_cycle=params_of(context).get("cycle_id"))
