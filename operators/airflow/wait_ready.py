"""Wait until a deployment serves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from wideloop.operators.airflow.run_context import params_of, run_of
from wideloop.operators.airflow.target_operator import TargetOperator
from wideloop.operators.airflow.triggers import TargetTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context


class WaitReady(TargetOperator):
    """Waits until a deployment answers a real generation, or has failed; returns an ``Outcome`` as a dict.

    Running out of memory is an outcome, unless ``must_be_ready``. Any other failure fails the task with the
    component's last lines; one that ``must_be_ready`` is started once more before, see
    :mod:`wideloop.operators.steps.restart`.
    """

    template_fields: Sequence[str] = ("deployment",)

    def __init__(self, *, deployment: Any, must_be_ready: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.deployment = deployment
        self.must_be_ready = must_be_ready

    def execute(self, context: Context) -> Any:
        from wideloop.operators.steps.restart import restart_once

        target_name = params_of(context)["target"]
        self.wait(target_name, TargetTrigger(target_name, self.deployment))
        if self.must_be_ready and restart_once(target_name, self.deployment, run_of(context)):
            self.wait(target_name, TargetTrigger(target_name, self.deployment))
        return self.conclude(context)

    def finish(self, context: Context) -> Any:
        from wideloop.manifests.errors import DeploymentFailed
        from wideloop.operators.steps.deployment import outcome

        start = outcome(params_of(context)["target"], self.deployment)
        if start is None:
            raise TimeoutError(f"{self.deployment} is still starting after {self.wait_timeout_s:.0f} s")
        if start.diagnosis is not None:
            if self.must_be_ready:
                raise DeploymentFailed(self.deployment, start.diagnosis)
            self.log.warning("infeasible: %s", start.diagnosis)
        return start.model_dump(mode="json")
