"""One trial: ask the study, deploy, benchmark, tell. Started by a sweep, or by hand to try one more point."""

from datetime import timedelta

from airflow.sdk import Param, dag
from wideloop.operators.airflow import params, tasks, trial_tasks
from wideloop.operators.airflow.benchmark import BenchmarkTrial
from wideloop.operators.airflow.wait_ready import WaitReady
from wideloop.results import airflow_names

SET_BY_SWEEP = "Set by the sweep"
PARAMS = params.everything() | {
    "cycle_id": Param(None, type=["string", "null"], title="Cycle", section=SET_BY_SWEEP,
                      description="Results and study belong to this cycle. Empty: a study of its own."),
    "image": Param(None, type=["string", "null"], title="Image digest", section=SET_BY_SWEEP,
                   description="Empty: verified again."),
    "model_path": Param(None, type=["string", "null"], title="Model path", section=SET_BY_SWEEP,
                        description="Empty: verified again."),
    "repeat_of": Param(None, type=["integer", "null"], title="Repeat of trial", section=SET_BY_SWEEP,
                       description="Measure a finished trial's configuration again instead of asking for a new one."),
    "repeat": Param(0, type="integer", minimum=0, title="Number of the repeat", section=SET_BY_SWEEP,
                    description="Tells the repeats of one trial apart; those of the same number are compared."),
}  # fmt: skip


@dag(
    dag_id=airflow_names.TRIAL,
    schedule=None,
    params=PARAMS,
    max_active_runs=1,
    is_paused_upon_creation=True,
    dagrun_timeout=timedelta(hours=12),
    tags=["wide-ep"],
    doc_md=__doc__,
)
def wideep_trial() -> None:
    asked_trial = trial_tasks.ask_study()
    named = tasks.name_deployment("trial")
    applied = trial_tasks.apply_deployment(asked_trial)
    ready = WaitReady(task_id="wait_until_ready", deployment=applied, pool=airflow_names.GPU_POOL)
    bench = BenchmarkTrial(
        task_id="benchmark", deployment=applied, waited=ready.output, asked=asked_trial, pool=airflow_names.GPU_POOL
    )
    trial_tasks.tell_study(asked_trial, ready.output, bench.output)
    asked_trial >> named >> applied
    bench >> tasks.delete_deployment(named).as_teardown(setups=named, on_failure_fail_dagrun=True)


wideep_trial()
