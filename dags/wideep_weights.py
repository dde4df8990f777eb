"""Fill or verify the model cache: config, tokenizer and, where the engine needs them, every weight shard.

On Kubernetes: makes the claims that are missing, and a Job downloads a pinned commit, going on where one broke off.
"""

from datetime import timedelta

from airflow.sdk import dag
from wideloop.operators.airflow import params, tasks


@dag(
    dag_id="wideep_weights",
    schedule=None,
    params=params.where(),
    max_active_runs=1,
    is_paused_upon_creation=True,
    dagrun_timeout=timedelta(hours=6),
    tags=["wide-ep"],
    doc_md=__doc__,
)
def wideep_weights() -> None:
    tasks.plan(deploys=False) >> tasks.image() >> tasks.weights() >> tasks.close()


wideep_weights()
