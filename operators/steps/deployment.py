"""Apply, watch and delete one deployment."""

from __future__ import annotations

import logging
from typing import Literal

from pydantic import BaseModel, ConfigDict
from wideloop.manifests.clients.base import LoadGenerator
from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.diagnosis import Diagnosis
from wideloop.manifests.engines import get_engine
from wideloop.manifests.errors import DeploymentFailed, refuse
from wideloop.operators.steps.configurations import check
from wideloop.operators.steps.evidence import keep_deployment
from wideloop.operators.steps.run import Run
from wideloop.operators.targets import open_target
from wideloop.operators.targets.base import Owner
from wideloop.operators.targets.generation import unanswered

log = logging.getLogger(__name__)
#: Questions to a deployment before it counts as silent; each may take 20 s.
_QUESTIONS = 3


class Outcome(BaseModel):
    """The end of a deployment's start: it serves, or its configuration cannot run."""

    model_config = ConfigDict(frozen=True)

    state: Literal["ready", "infeasible"]
    diagnosis: Diagnosis | None = None
    start_seconds: float | None = None


def apply(spec: DeploymentSpec, owner: Owner, generator: LoadGenerator) -> None:
    """Check once more, now with the target's eyes, and start; ``generator`` will measure the deployment.

    Raises:
        Refused: the spec cannot work here; nothing was started.
        TargetError: it could not be started; nothing is left.
    """
    target = open_target(spec.target)
    spec = spec.changed(options=target.added_options(get_engine(spec.engine)).flags)
    # A target's preflight may repeat findings of the check.
    findings = {str(f): f for f in check(spec) + target.preflight(spec, generator)}
    refuse(findings.values())
    for text in findings:
        log.warning("%s: %s", spec.name, text)
    target.apply(spec, owner)


def outcome(target_name: str, name: str) -> Outcome | None:
    """None while the deployment is still starting.

    Raises:
        DeploymentFailed: it failed for a reason that does not lie in its configuration.
    """
    status = open_target(target_name).status(name)
    if status.state == "pending":
        return None
    if status.state == "ready":
        return Outcome(state="ready", start_seconds=status.start_seconds)
    diagnosis = status.diagnosis or Diagnosis(
        kind="crashed", component=name, message=status.reason, action="apply it again"
    )
    if diagnosis.lies_in_configuration:
        return Outcome(state="infeasible", diagnosis=diagnosis)
    raise DeploymentFailed(name, diagnosis)


def ailment(target_name: str, name: str, client: str | None = None) -> Diagnosis | None:
    """Why a deployment does not serve; None while it does, or may.

    Args:
        client: one that was sent to it. When that has failed, a question shows whether the deployment still answers: a
            worker that was stopped for a while may have lost its registration, and runs.
    """
    target = open_target(target_name)
    status = target.status(name)
    if status.state == "failed":
        return status.diagnosis
    if client is None or status.state != "ready" or target.client_status(name, client).state != "failed":
        return None
    spec = target.spec(name)
    # An engine may first finish what the client left behind.
    answers = [answer for _ in range(_QUESTIONS) if (answer := unanswered(target, spec)) is not None]
    if len(answers) < _QUESTIONS:
        return None
    return Diagnosis(
        kind="timed_out",
        component="frontend",
        message=f"it was ready, and answers no more: {answers[-1]}",
        action="Look for a worker that hung or lost its connection: its log ends earlier than the others'",
    )


def delete(target_name: str, name: str, run: Run | None = None) -> None:
    """Remove a deployment; there need not be one. Its logs are kept with the cycle of ``run``."""
    if run is not None:
        keep_deployment(target_name, name, run)
    open_target(target_name).delete(name)
