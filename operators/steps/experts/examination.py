"""Examine a deployment before it is removed: its recording, its answers to fixed prompts, its rebalances."""

from __future__ import annotations

import logging

from pydantic import BaseModel, ConfigDict
from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.errors import TargetError
from wideloop.operators.steps.answers import rounds
from wideloop.operators.steps.experts.collect import dump
from wideloop.operators.steps.rebalancing import read_rebalances
from wideloop.operators.steps.run import Run, artefacts
from wideloop.operators.targets import open_target
from wideloop.operators.targets.base import Target
from wideloop.results.experts.rebalances import Rebalances

log = logging.getLogger(__name__)


class Examined(BaseModel):
    """What is compared with another deployment.

    Attributes:
        recordings: URI of the recording by component; empty where the deployment records none.
        answers: URI of the answers to the fixed prompts, asked twice; None where the frontend did not answer.
        rebalances: by component, where experts are rebalanced online.
    """

    model_config = ConfigDict(frozen=True)

    recordings: dict[str, str] = {}
    answers: str | None = None
    rebalances: dict[str, Rebalances] = {}


def examine(target_name: str, name: str, run: Run) -> Examined:
    """Collect all that can be compared with another deployment of the same model.

    Raises:
        TargetError: a worker wrote no recording.
    """
    target = open_target(target_name)
    spec = target.spec(name)
    # The recording first, so that it does not contain the prompts below.
    recorded = dump(target_name, name, run) if spec.record_experts is not None else {}
    return Examined(recordings=recorded, answers=_ask(target, spec, run), rebalances=read_rebalances(target, spec))


def _ask(target: Target, spec: DeploymentSpec, run: Run) -> str | None:
    try:
        answers = rounds(target, spec, 2)
    except (TargetError, ValueError) as error:
        log.warning("the answers of %s cannot be compared: %s", spec.name, error)
        return None
    document = {"deployment": spec.name, "rounds": answers}
    return artefacts().put_json(document, "cycles", run.cycle_id, "answers", f"{spec.name}.json")
