"""Benchmark a running deployment, or deploy the form's configuration, benchmark it and give it back."""

from datetime import timedelta

from airflow.sdk import dag
from wideloop.operators.airflow import params, tasks
from wideloop.operators.airflow.benchmark import Benchmark
from wideloop.operators.airflow.wait_ready import WaitReady
from wideloop.results import airflow_names

PARAMS = (
    params.where()
    | params.workload()
    | params.knobs()
    | {"deployment": params.deployment("Name of a running one, as wideep_deploy printed it. Empty: deploy first.")}
)


@dag(
    dag_id=airflow_names.BENCHMARK,
    schedule=None,
    params=PARAMS,
    max_active_runs=1,
    is_paused_upon_creation=True,
    dagrun_timeout=timedelta(hours=24),
    tags=["wide-ep"],
    doc_md=__doc__,
)
def wideep_benchmark() -> None:
    checked, image, weights = tasks.check_request(), tasks.prepare_image(), tasks.prepare_weights()
    checked >> image >> weights
    named = tasks.name_deployment("benchmark")
    applied = tasks.apply_deployment("benchmark", image, weights)
    ready = WaitReady(
        task_id="wait_until_ready",
        deployment=applied,
        must_be_ready=True,
        stage="benchmark",
        pool=airflow_names.GPU_POOL,
    )
    bench = Benchmark(
        task_id="benchmark",
        deployment=applied,
        waited=ready.output,
        purpose="benchmark",
        filed_as="by hand",
        stage="benchmark",
        pool=airflow_names.GPU_POOL,
    )
    weights >> named >> applied
    bench >> tasks.delete_deployment(named).as_teardown(setups=named, on_failure_fail_dagrun=True)
    bench >> tasks.close_cycle()


wideep_benchmark()
