"""Bring one deployment up and keep it: the form's, or exactly that of an earlier cycle's trial. Or take one down."""

from datetime import timedelta

from airflow.sdk import Param, dag
from wideloop.operators.airflow import params, tasks
from wideloop.operators.airflow.wait_ready import WaitReady
from wideloop.results import airflow_names

PARAMS = (
    params.where()
    | params.knobs()
    | {
        "action": Param("up", type="string", enum=["up", "down"], title="Action", section="Deployment",
                        description="up: preflight, apply, wait for a real generation. down: delete."),
        "from_cycle": params.option("from_cycle"),
        "from_trial": params.option("from_trial"),
        "deployment": params.deployment("Which one to take down: its name, as up printed it."),
        "keep_hours": Param(1, type="number", exclusiveMinimum=0, title="Keep for (hours)", section="Deployment",
                            description="The janitor removes it afterwards, so that no GPU is forgotten."),
    }
)  # fmt: skip


@dag(
    dag_id=airflow_names.DEPLOY,
    schedule=None,
    params=PARAMS,
    is_paused_upon_creation=True,
    dagrun_timeout=timedelta(hours=6),
    tags=["wide-ep"],
    doc_md=__doc__,
)
def wideep_deploy() -> None:
    choice = tasks.choose_action()
    checked, image, weights = tasks.check_request(), tasks.prepare_image(), tasks.prepare_weights()
    applied = tasks.apply_deployment("deploy", image, weights)
    ready = WaitReady(task_id="wait_until_ready", deployment=applied, must_be_ready=True, stage="deploy")
    choice >> checked >> image >> weights
    choice >> tasks.take_down_deployment()
    ready >> tasks.announce_endpoints(applied) >> tasks.close_cycle()
    ready >> tasks.delete_failed_deployment(applied)


wideep_deploy()
