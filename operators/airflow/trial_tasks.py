"""The tasks of one trial: ask the study, apply what it asks for, tell it what was measured."""

from __future__ import annotations

from typing import Any

from airflow.sdk import get_current_context, task
from wideloop.operators.airflow import tasks
from wideloop.operators.airflow.run_context import params_of, run_of
from wideloop.operators.airflow.task_errors import fail_at_once, reschedule


@task(**tasks.RETRIES)
def ask_study() -> dict[str, Any]:
    """Ask the study for the configuration to try; skips the run when its trial was finished before."""
    from airflow.sdk.exceptions import AirflowSkipException
    from wideloop.operators.steps import sweep, trial

    context = get_current_context()
    if run_of(context).for_cycle is None:
        # Started by hand: a cycle of its own, whose first trial is the configuration of the form.
        tasks.check_and_open_cycle(must_run=False, sweeps=True)
        sweep.prepare_study(params_of(context), run_of(context))
    asked_trial = trial.ask(params_of(context), run_of(context))
    if asked_trial.finished:
        raise AirflowSkipException(f"trial {asked_trial.number} was finished before")
    return asked_trial.model_dump(mode="json")


@task(**tasks.RETRIES)
def apply_deployment(asked: dict[str, Any]) -> str:
    """Start the deployment of a trial; returns its name."""
    from wideloop.manifests.errors import TargetBusy, WideloopError
    from wideloop.operators.steps import launch, trial

    context = get_current_context()
    params = params_of(context)
    wanted = trial.AskedTrial.model_validate(asked)
    try:
        return launch.launch_trial(params, wanted, run_of(context), params["image"], params["model_path"])
    except TargetBusy as busy:
        raise reschedule(busy) from busy
    except WideloopError as error:
        trial.note_failure(run_of(context), error)
        raise


@task(trigger_rule="all_done", **tasks.RETRIES)
def tell_study(asked: dict[str, Any] | None, started: dict[str, Any] | None, measured: dict[str, Any] | None) -> None:
    """Tell the study the result of the trial; fails when there is none."""
    from airflow.sdk.exceptions import AirflowSkipException
    from wideloop.operators.airflow import dag_runs
    from wideloop.operators.steps import benchmark, deployment, trial

    context = get_current_context()
    if asked is None:
        if dag_runs.failed_tasks(context["dag_run"].dag_id, context["dag_run"].run_id):
            raise fail_at_once(RuntimeError("no trial was asked for"))
        raise AirflowSkipException("this run's trial was finished before")
    outcome = deployment.Outcome.model_validate(started) if started else None
    result = benchmark.Measured.model_validate(measured) if measured else None
    by_hand = run_of(context).for_cycle is None
    try:
        trial.tell(params_of(context), trial.AskedTrial.model_validate(asked), run_of(context), outcome, result)
    except trial.TrialFailed as failed:
        if by_hand:
            tasks.write_end_of_cycle("tell_study")
        raise fail_at_once(failed) from failed
    if by_hand:
        tasks.write_end_of_cycle()
