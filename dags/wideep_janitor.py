"""Remove every deployment, build, smoke test and download of ours that no live run owns.

Unpause it wherever GPUs cost money.
"""

from datetime import datetime, timedelta

from airflow.sdk import dag
from wideloop.operators.airflow import tasks
from wideloop.results import airflow_names


@dag(
    dag_id=airflow_names.JANITOR,
    schedule=timedelta(minutes=15),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=True,
    dagrun_timeout=timedelta(minutes=10),
    tags=["wide-ep"],
    doc_md=__doc__,
)
def wideep_janitor() -> None:
    tasks.remove_orphans()


wideep_janitor()
