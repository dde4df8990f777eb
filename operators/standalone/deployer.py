"""Run one deployment of a cycle, and keep what is worth keeping of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from wideloop.manifests.deployment import DeploymentSpec
from wideloop.operators.request import Request
from wideloop.operators.standalone import deployment_log
from wideloop.operators.standalone.deployment_run import DeploymentRun, Hooks, run_deployment
from wideloop.operators.steps import experts
from wideloop.operators.steps.benchmark import Subject, summary
from wideloop.operators.steps.run import Run
from wideloop.operators.targets import open_target

log = logging.getLogger(__name__)
Apply = Callable[[], object]


class Deployer:
    """Runs deployments of one cycle, one after the other.

    Args:
        run: the cycle's. image, model_path: what every deployment runs in and on.
    """

    def __init__(self, request: Request, run: Run, image: str, model_path: str) -> None:
        self.image, self.model_path = image, model_path
        self._request = request
        self._run = run

    def record(self, apply: Apply, subjects: Sequence[Subject], *, next_name: str | None) -> dict[str, str]:
        """Measure a deployment that records experts; returns the URI of the recording by component.

        Args:
            apply: starts the deployment. subjects: what is measured on it.
            next_name: of the deployment that will come next; its processes are started ahead where that is possible.
        """
        deployment_run = DeploymentRun(subjects[-1].deployment)
        recordings: dict[str, str] = {}

        def collect() -> None:
            recordings.update(experts.dump(self._request.target, deployment_run.name, self._run))

        self.measure(apply, subjects, deployment_run, next_name=next_name, collect=collect)
        return recordings

    def measure(
        self,
        apply: Apply,
        subjects: Sequence[Subject],
        deployment_run: DeploymentRun,
        *,
        run: Run | None = None,
        next_name: str | None = None,
        collect: Callable[[], None] = lambda: None,
    ) -> None:
        """Measure a deployment and keep an entry of it; ``deployment_run`` is filled in on the way.

        Args:
            run: who measures, where it is not the cycle's own run.
            collect: called while the deployment still serves, after the last measurement.
        """
        target = open_target(self._request.target)
        name, subject = deployment_run.name, subjects[-1]
        figures: dict[str, Any] = {}
        applied: list[DeploymentSpec] = []

        def stand_by() -> None:
            if next_name is not None:
                target.stand_by(self._request.spec(next_name, self.image, self.model_path), self._run.owner)

        def read() -> None:
            collect()
            figures.update(deployment_log.engine_figures(self._request.target, name))

        def note_spec() -> None:
            applied.append(target.spec(name))

        def keep_entry() -> None:
            if applied:
                deployment_log.keep_entry(self._run, deployment_run, subject, applied[0], figures)

        hooks = Hooks(stand_by, read, note_spec, keep_entry)
        run_deployment(self._request.target, run or self._run, apply, subjects, deployment_run, hooks)
        if deployment_run.last is not None:
            log.info(
                "%s: %s; driver's own work %.1f s",
                subject.label,
                summary(deployment_run.last),
                deployment_run.overhead_s,
            )
