"""Convert Airflow's task context to the arguments of steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import Context
    from wideloop.operators.steps.run import Run


def params_of(context: Context) -> dict[str, Any]:
    """The run's params, validated by their schema, with defaults filled in.

    One configuration may serve several DAGs: parameters that only others have are left aside.

    Raises:
        Refused: ``--conf`` or a REST call gave a parameter that no DAG has. Airflow takes any.
    """
    from wideloop.manifests.errors import refuse
    from wideloop.manifests.parameters import unknown_parameter
    from wideloop.operators.request.parameters import RUN_OPTIONS, request_parameters

    params, dag = dict(context["params"]), context.get("dag")
    if dag is not None:
        names = {*dag.params, *(p.name for p in (*request_parameters(), *RUN_OPTIONS))}
        refuse(unknown_parameter(name, value, dag.params) for name, value in params.items() if name not in names)
    return params


def run_of(context: Context) -> Run:
    """The run of this task, with the cycle that it works for where another run began that."""
    from wideloop.operators.steps.run import Run

    dag_run = context["dag_run"]
    return Run(dag_id=dag_run.dag_id, run_id=dag_run.run_id, for_cycle=params_of(context).get("cycle_id"))
