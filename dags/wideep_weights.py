"""Fill or verify the model cache: config, tokenizer and, where the engine needs them, every weight shard.

On Kubernetes: makes the claims that are missing, and a Job downloads a pinned commit, going on where one broke off.
"""

from datetime import timedelta

from airflow.sdk import dag
from wideloop.operators.airflow import params, tasks
from wideloop.results import airflow_names


@dag(
    dag_id=airflow_names.WEIGHTS,
    schedule=None,
    params=params.where(),
    max_active_runs=1,
    is_paused_upon_creation=True,
    dagrun_timeout=timedelta(hours=6),
    tags=["wide-ep"],
    doc_md=__doc__,
)
def wideep_weights() -> None:
    tasks.check_request(deploys=False) >> tasks.prepare_image() >> tasks.prepare_weights() >> tasks.close_cycle()


wideep_weights()
