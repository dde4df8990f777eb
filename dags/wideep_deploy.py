"""Bring one deployment up and keep it, or take one down."""

from datetime import timedelta

from airflow.sdk import Param, dag
from wideloop.operators.airflow import params, tasks
from wideloop.operators.airflow.wait_ready import WaitReady

PARAMS = (
    params.where()
    | params.knobs()
    | {
        "action": Param("up", type="string", enum=["up", "down"], title="Action", section="Deployment",
                        description="up: preflight, apply, wait for a real generation. down: delete."),
        "deployment": params.deployment("Which one to take down: its name, as up printed it."),
        "keep_hours": Param(1, type="number", exclusiveMinimum=0, title="Keep for (hours)", section="Deployment",
                            description="The janitor removes it afterwards, so that no GPU is forgotten."),
    }
)  # fmt: skip


@dag(
    dag_id="wideep_deploy",
    schedule=None,
    params=PARAMS,
    is_paused_upon_creation=True,
    dagrun_timeout=timedelta(hours=6),
    tags=["wide-ep"],
    doc_md=__doc__,
)
def wideep_deploy() -> None:
    choice = tasks.up_or_down()
    planned, image, weights = tasks.plan(), tasks.image(), tasks.weights()
    applied = tasks.apply("deploy", image, weights)
    ready = WaitReady(task_id="ready", deployment=applied, must_be_ready=True, stage="deploy")
    choice >> planned >> image >> weights
    choice >> tasks.take_down()
    ready >> tasks.announce(applied) >> tasks.close()
    ready >> tasks.delete_when_failed(applied)


wideep_deploy()
