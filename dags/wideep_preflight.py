"""Look at the target before anything is deployed: one table of check, finding and what to do.

Takes the parameters of `wideep_cycle`, starts nothing and takes no GPU. On Kubernetes it shows access, permissions,
memory, Dynamo's operator, Grove or LeaderWorkerSet, Kueue, networks, GPUs, drivers, images, claims, storage classes,
quota and the hub's token. *Create first* makes the namespace and the secret with the hub's token where they are
missing.
"""

from datetime import timedelta

from airflow.sdk import dag
from wideloop.operators.airflow import params, tasks
from wideloop.results import airflow_names


@dag(
    dag_id=airflow_names.PREFLIGHT,
    schedule=None,
    params=params.everything() | {"create": params.option("create")},
    is_paused_upon_creation=True,
    dagrun_timeout=timedelta(minutes=30),
    tags=["wide-ep"],
    doc_md=__doc__,
)
def wideep_preflight() -> None:
    tasks.create_prerequisites() >> tasks.preflight()


wideep_preflight()
