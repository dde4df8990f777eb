"""Start the deployment a run needs: the form's configuration, or a trial's."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from wideloop.operators.request import Request
from wideloop.operators.steps import prepare
from wideloop.operators.steps.benchmark import Subject
from wideloop.operators.steps.deployment import apply
from wideloop.operators.steps.earlier import request_of, spec_of_run
from wideloop.operators.steps.experts import placed_spec
from wideloop.operators.steps.run import Run, begin_stage, stage
from wideloop.operators.steps.trial import AskedTrial, spec_for
from wideloop.results.records import Purpose


def launch(
    params: Mapping[str, Any],
    run: Run,
    kind: str,
    image: str,
    model_path: str,
    *,
    record: bool,
    placed: bool,
    compared: bool = False,
) -> str:
    """Apply the form's configuration; returns the deployment's name, which is this run's.

    When the form names a deployment that runs already, that one is used as it is.

    Args:
        kind: first part of the name, and the timeline stage that begins here.
        record: start the engine such that it can record expert distributions.
        placed: with the cycle's recorded expert placement instead of the engine's own order.
        compared: it is one side of a comparison of experts in order and placed.
    """
    if params.get("deployment"):
        begin_stage(run, kind)
        return str(params["deployment"])
    request = request_of(params)
    name = run.deployment(kind)
    spec = spec_of_run(params, name, image, model_path)
    if compared:
        spec = request.comparable(spec)
    if placed:
        spec = placed_spec(request, spec, run)
    # An engine that rebalances online resets its recorder each time.
    if record and not (placed and request.eplb == "online"):
        spec = request.recorded(spec)
    hours = params.get("keep_hours")
    owner = run.owner
    if hours is not None:
        owner = owner.model_copy(update={"keep_until": datetime.now(UTC) + timedelta(hours=float(hours))})
    with stage(run, kind, ends=False):
        apply(spec, owner, request.generator)
    return name


def launch_trial(
    params: Mapping[str, Any], asked: AskedTrial, run: Run, image: str | None, model_path: str | None
) -> str:
    """Apply a trial's configuration; a trial started by hand finds its own image and weights."""
    image = image or prepare.ensure_image(params, run)
    model_path = model_path or prepare.ensure_weights(params, run)
    generator = Request.from_params(params).generator
    apply(spec_for(params, asked, run, image, model_path), run.owner, generator)
    return asked.deployment


def subject(
    params: Mapping[str, Any],
    run: Run,
    deployment: str,
    purpose: Purpose,
    label: str,
    *,
    repeat: int,
    record: bool,
    stage: str | None,
) -> Subject:
    """The whole curve of the form's workload on a deployment."""
    request = Request.from_params(params)
    return Subject(
        run_id=run.run_id,
        target=request.target,
        deployment=deployment,
        purpose=purpose,
        label=label,
        workload=request.workload,
        repeat=repeat,
        record=record,
        stage=stage,
    )
