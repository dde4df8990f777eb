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

log = logging.getLogger(__name__)


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


def delete(target_name: str, name: str, run: Run | None = None) -> None:
    """Remove a deployment; there need not be one. Its logs are kept with the cycle of ``run``."""
    if run is not None:
        keep_deployment(target_name, name, run)
    open_target(target_name).delete(name)
