"""Record which experts a workload uses, place them accordingly, and measure in interleaved pairs what that is worth."""

import os
from datetime import timedelta

from airflow.sdk import dag
from wideloop.operators.airflow import graph, params
from wideloop.operators.steps import cycle_plan
from wideloop.results import airflow_names

#: Deployments of each side. The first pair is examined; an interval of the gain needs two, a useful one three.
PAIRS = max(int(os.environ.get("WIDELOOP_EXPERT_PAIRS", "3")), 1)


@dag(
    dag_id=airflow_names.EXPERTS,
    schedule=None,
    params=params.where() | params.workload() | params.knobs() | params.recorder() | params.eplb(),
    max_active_runs=1,
    is_paused_upon_creation=True,
    dagrun_timeout=timedelta(days=2),
    tags=["wide-ep"],
    doc_md=__doc__,
)
def wideep_experts() -> None:
    graph.draw(cycle_plan.experts_stages(PAIRS))


wideep_experts()
