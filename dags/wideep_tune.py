"""One sweep without the rest of the cycle. Run again with the same study to go on where it stopped."""

from datetime import timedelta

from airflow.sdk import Param, dag
from wideloop.operators.airflow import params, tasks
from wideloop.operators.airflow.sweep import RunTrials
from wideloop.results import airflow_names

PARAMS = params.everything() | {
    "cycle_id": Param(None, type=["string", "null"], title="Study to go on with", section="Sweep",
                      description="The id of an earlier cycle or sweep: its trials count, its recorded expert "
                                  "placement is used. Empty: a new study."),
}  # fmt: skip


@dag(
    dag_id=airflow_names.TUNE,
    schedule=None,
    params=PARAMS,
    max_active_runs=1,
    is_paused_upon_creation=True,
    dagrun_timeout=timedelta(days=7),
    tags=["wide-ep"],
    doc_md=__doc__,
)
def wideep_tune() -> None:
    checked, image, weights = (
        tasks.check_request(must_run=False, sweeps=True),
        tasks.prepare_image(),
        tasks.prepare_weights(),
    )
    checked >> image >> weights
    tune = RunTrials(task_id="tune", what="trials", image=image, model_path=weights)
    weights >> tune >> tasks.close_cycle()


wideep_tune()
