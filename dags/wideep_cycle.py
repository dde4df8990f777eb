"""The whole cycle: image, weights, baseline with a recording, sweep, confirmation, recommendation."""

import os
from datetime import datetime, timedelta

from airflow.sdk import dag
from wideloop.operators.airflow import graph, params
from wideloop.operators.steps import cycle_plan
from wideloop.results import airflow_names


@dag(
    dag_id=airflow_names.CYCLE,
    # A weekly run keeps the recommendation true for the engine and driver of the day.
    schedule=os.environ.get("WIDELOOP_CYCLE_SCHEDULE", "@weekly") or None,
    start_date=datetime(2026, 1, 1),
    params=params.everything(),
    max_active_runs=1,
    is_paused_upon_creation=True,
    dagrun_timeout=timedelta(days=7),
    tags=["wide-ep"],
    doc_md=__doc__,
)
def wideep_cycle() -> None:
    graph.draw(cycle_plan.cycle_stages())


wideep_cycle()
