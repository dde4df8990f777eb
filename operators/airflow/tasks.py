"""The tasks that DAGs are composed of. Each hands its work to a step; see ``wideloop.operators.steps``."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from airflow.sdk import get_current_context, task
from wideloop.operators.airflow.run_context import params_of, run_of
from wideloop.operators.airflow.task_errors import fail_at_once, reschedule

log = logging.getLogger(__name__)

#: Steps are idempotent, so a lost worker costs a retry and nothing else.
RETRIES: dict[str, Any] = {"retries": 2, "retry_delay": timedelta(seconds=5)}
#: What frees accelerators is tried for longer than an API server takes to come back.
FREES_ACCELERATORS = RETRIES | {"retries": 8}


def check_and_open_cycle(**scope: bool) -> str:
    """Judge the request and open the cycle's page; returns the cycle's id."""
    from wideloop.manifests.errors import WideloopError
    from wideloop.operators.steps import plan as step
    from wideloop.operators.steps.earlier import named_trial, plan_earlier

    context = get_current_context()
    run = run_of(context)
    try:
        earlier = named_trial(params_of(context))
        warnings = step.plan(params_of(context), run, **scope) if earlier is None else plan_earlier(earlier, run)
    except WideloopError as refused:
        raise fail_at_once(refused) from refused
    for warning in warnings:
        log.warning(warning)
    return run.cycle_id


def write_end_of_cycle(*failed_too: str) -> None:
    """Close the cycle's page, with the run's failed tasks and ``failed_too``; raises when there are any."""
    from wideloop.operators.airflow import dag_runs
    from wideloop.operators.steps import close as step

    run = run_of(get_current_context())
    try:
        step.close(run, [*dag_runs.failed_tasks(run.dag_id, run.run_id), *failed_too])
    except step.CycleFailed as failed:
        raise fail_at_once(failed) from failed


@task(**RETRIES)
def check_request(
    *,
    deploys: bool = True,
    must_run: bool = True,
    sweeps: bool = False,
    records: bool = False,
    compares_placed: bool = False,
) -> str:
    """Check everything that can be checked before anything is launched; returns the cycle's id."""
    return check_and_open_cycle(
        deploys=deploys, must_run=must_run, sweeps=sweeps, records=records, compares_placed=compares_placed
    )


@task(**RETRIES)
def prepare_image() -> str:
    """Build or verify the engine's image; returns its digest."""
    from wideloop.manifests.errors import Refused
    from wideloop.operators.steps import prepare

    context = get_current_context()
    try:
        return prepare.ensure_image(params_of(context), run_of(context))
    except Refused as refused:
        raise fail_at_once(refused) from refused


@task(**RETRIES)
def prepare_weights() -> str:
    """Fill or verify the model cache; returns the model's path on the target."""
    from wideloop.manifests.errors import Refused
    from wideloop.operators.steps import prepare

    context = get_current_context()
    try:
        return prepare.ensure_weights(params_of(context), run_of(context))
    except Refused as refused:
        raise fail_at_once(refused) from refused


@task(**RETRIES)
def name_deployment(kind: str) -> str:
    """Compute the deployment's name. This is the setup, so that whatever applying leaves behind is torn down."""
    context = get_current_context()
    return str(params_of(context).get("deployment") or run_of(context).deployment(kind))


@task(**RETRIES)
def apply_deployment(
    kind: str, image: str, model_path: str, *, record: bool = False, placed: bool = False, compared: bool = False
) -> str:
    """Start the deployment of the form's configuration; returns its name. Another task waits for it."""
    from wideloop.manifests.errors import Refused, TargetBusy
    from wideloop.operators.steps import launch

    context = get_current_context()
    try:
        wanted = {"record": record, "placed": placed, "compared": compared}
        return launch.launch(params_of(context), run_of(context), kind, image, model_path, **wanted)
    except Refused as refused:
        raise fail_at_once(refused) from refused
    except TargetBusy as busy:
        raise reschedule(busy) from busy


@task(**RETRIES)
def collect_recordings(deployment: str) -> dict[str, str]:
    """Have every worker write its expert recording; returns where each is kept."""
    from wideloop.operators.steps import experts

    context = get_current_context()
    return experts.dump(params_of(context)["target"], deployment, run_of(context))


@task(**RETRIES)
def examine_deployment(deployment: str) -> dict[str, Any]:
    """Collect all that can be compared with another deployment: recordings, answers, rebalances."""
    from wideloop.operators.steps import experts

    context = get_current_context()
    return experts.examine(params_of(context)["target"], deployment, run_of(context)).model_dump(mode="json")


@task(**RETRIES)
def place_experts(recordings: dict[str, str]) -> dict[str, str]:
    """Analyse the recordings and make a placement for every redundancy of the sweep."""
    from wideloop.operators.steps import experts

    context = get_current_context()
    return experts.analyse(params_of(context), recordings, run_of(context)).files


@task(**FREES_ACCELERATORS)
def delete_deployment(deployment: str) -> None:
    """Delete the deployment, which frees its accelerators. One that the form named existed before, and stays."""
    from wideloop.operators.steps import deployment as step

    context = get_current_context()
    params = params_of(context)
    if deployment != params.get("deployment"):
        step.delete(params["target"], deployment, run_of(context))


@task(trigger_rule="one_failed", **FREES_ACCELERATORS)
def delete_failed_deployment(deployment: str | None) -> None:
    """Delete a deployment that was to be kept but never became ready."""
    from wideloop.operators.steps import deployment as step

    context = get_current_context()
    params = params_of(context)
    # The name is missing where applying failed or was killed; what that left behind has this name.
    name = deployment or run_of(context).deployment("deploy")
    if name != params.get("deployment"):
        step.delete(params["target"], name, run_of(context))


@task.branch(**RETRIES)
def choose_action() -> str:
    """Whether the form wants a deployment brought up or taken down."""
    return "check_request" if params_of(get_current_context())["action"] == "up" else "take_down_deployment"


@task(**RETRIES)
def take_down_deployment() -> None:
    """Delete the deployment that the form names. An unknown name is an error: its GPUs would stay occupied."""
    from wideloop.operators.steps import deployment as step
    from wideloop.operators.targets import open_target

    params = params_of(get_current_context())
    target = open_target(params["target"])
    existing = [owned.name for owned in target.list_owned()]
    if params["deployment"] not in existing:
        names = ", ".join(existing) or "none"
        raise fail_at_once(
            ValueError(f"deployment = {params['deployment']!r}: there is no such deployment; there are: {names}")
        )
    step.delete(params["target"], params["deployment"])


@task(**RETRIES)
def announce_endpoints(deployment: str) -> dict[str, Any]:
    """Log where the deployment is reached; returns its endpoints."""
    from wideloop.operators.steps.run import end_stage
    from wideloop.operators.targets import open_target

    context = get_current_context()
    endpoints = open_target(params_of(context)["target"]).endpoints(deployment)
    end_stage(run_of(context), "deploy", "success", endpoints.frontend)
    log.info("%s answers at %s", deployment, endpoints.frontend)
    return endpoints.model_dump(mode="json")


@task(**RETRIES)
def compare_experts(before: dict[str, Any], after: dict[str, Any]) -> str:
    """Compare both sides of an expert comparison, and prove the placement; returns the verdict."""
    from wideloop.operators.steps import experts

    context = get_current_context()
    first, second = (experts.Examined.model_validate(side) for side in (before, after))
    verdict = experts.compare(params_of(context), first, second, run_of(context)).verdict
    log.info(verdict)
    return verdict


@task(**RETRIES)
def recommend() -> dict[str, Any]:
    """Compare the repeats and keep the conclusion."""
    from wideloop.operators.steps import recommend as step
    from wideloop.operators.steps.run import stage

    context = get_current_context()
    run = run_of(context)
    with stage(run, "recommend"):
        return step.recommend(params_of(context), run).model_dump(mode="json")


@task(trigger_rule="all_done", **RETRIES)
def close_cycle() -> None:
    """Write the cycle's end. Fails when any task of the run failed, so that the run is not green."""
    write_end_of_cycle()


@task(**RETRIES)
def create_prerequisites() -> list[str]:
    """Make the namespace or the hub's secret, where the form asks for it; returns what was done."""
    from wideloop.manifests.errors import Refused
    from wideloop.operators.steps import preflight as step

    try:
        done = step.prepare(params_of(get_current_context()))
    except Refused as refused:
        raise fail_at_once(refused) from refused
    for text in done:
        log.info(text)
    return done


@task(**RETRIES)
def preflight() -> list[str]:
    """Print the table of all checks; returns the warnings. Fails on errors, which would refuse a deployment."""
    from wideloop.manifests.errors import Refused, refuse
    from wideloop.operators.steps import preflight as step

    try:
        findings = step.preflight(params_of(get_current_context()))
        refuse(f.changed(severity="error") for f in findings if f.severity != "warning")
    except Refused as refused:
        raise fail_at_once(refused) from refused
    for finding in findings:
        log.warning("%s", finding)
    return [str(finding) for finding in findings]


@task(**RETRIES)
def remove_orphans() -> list[str]:
    """Delete every deployment, and every Job for an image or weights, whose runs have ended."""
    from wideloop.operators.airflow import dag_runs
    from wideloop.operators.steps import janitor

    return janitor.remove_orphans(dag_runs.is_live)
