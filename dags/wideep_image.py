"""Build or verify the engine's image, and smoke-test it once per digest.

On the local target: its environment, by the digest of its lock. On Kubernetes: found in its registry, or built in
the cluster by rootless BuildKit (`WIDELOOP_CLUSTER__BUILD=true`) unless the same inputs were built before.
"""

from datetime import timedelta

from airflow.sdk import dag
from wideloop.operators.airflow import params, tasks
from wideloop.results import airflow_names


@dag(
    dag_id=airflow_names.IMAGE,
    schedule=None,
    params=params.where() | params.image_build(),
    max_active_runs=1,
    is_paused_upon_creation=True,
    dagrun_timeout=timedelta(hours=3),
    tags=["wide-ep"],
    doc_md=__doc__,
)
def wideep_image() -> None:
    tasks.check_request(deploys=False) >> tasks.prepare_image() >> tasks.close_cycle()


wideep_image()
