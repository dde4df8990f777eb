"""The whole cycle: image, weights, baseline with a recording, sweep, confirmation, recommendation."""

import os
from datetime import datetime, timedelta

from airflow.sdk import dag
from wideloop.operators.airflow import groups, params, tasks
from wideloop.operators.airflow.sweep import RunTrials


@dag(
    dag_id="wideep_cycle",
    # A weekly look keeps the recommendation true for the engine and driver of the day.
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
    planned = tasks.plan(sweeps=True, records=True)
    image, weights = tasks.image(), tasks.weights()
    planned >> image >> weights
    baseline = groups.measured("baseline", "baseline", "default", image, weights, record=True, collect="recordings")
    placed = tasks.place_experts(baseline.collected)
    tune = RunTrials(task_id="tune", what="trials", image=image, model_path=weights)
    confirm = RunTrials(task_id="confirm", what="repeats", image=image, model_path=weights)
    [placed, baseline.given_back] >> tune >> confirm >> tasks.recommend() >> tasks.close()


wideep_cycle()
