"""Convert Airflow's task context to the arguments of steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import Context
    from wideloop.operators.steps.run import Run


def params_of(context: Context) -> dict[str, Any]:
    """The run's params, validated by their schema, with defaults filled in.

    Raises:
        Refused: ``--conf`` or a REST call gave one that the DAG does not have. Airflow takes any.
    """
    from wideloop.manifests.errors import refuse
    from wideloop.manifests.parameters import unknown_parameter

    params, dag = dict(context["params"]), context.get("dag")
    if dag is not None:
        refuse(unknown_parameter(name, value, dag.params) for name, value in params.items() if name not in dag.params)
    return params


def run_of(context: Context) -> Run:
    """The run of this task, with the cycle that it works for where another run began that."""
    from wideloop.operators.steps.run import Run

    dag_run = context["dag_run"]
    return Run(dag_id=dag_run.dag_id, run_id=dag_run.run_id, for_cycle=params_of(context).get("cycle_id"))
