"""Base of the operators that wait for a target: first in the task's process, then deferred.

Most waits on a laptop end within seconds, and deferring costs two process starts; on a cluster they take
minutes, and a deferred wait survives the death of every Airflow process. So a task polls for the target's
``patience_s`` and defers after that.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from wideloop.operators.airflow.run_context import run_of
from wideloop.operators.airflow.triggers import TargetTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context

_POLL_S = 0.5
#: A target gives up on a start by itself (a 671B load within two hours and some minutes); a benchmark that takes
#: longer hangs. Two of these must fit into the time-out of every DAG that deploys: that one skips teardowns.
WAIT_TIMEOUT_S = 2.25 * 3600


class TargetOperator(BaseOperator):
    """Waits for something on a target.

    Args:
        stage: the timeline stage that this work belongs to; a failure ends it with the reason.
        wait_timeout_s: longest deferred wait.
    """

    def __init__(
        self,
        *,
        stage: str | None = None,
        wait_timeout_s: float = WAIT_TIMEOUT_S,
        **kwargs: Any,
    ) -> None:
        # The deployment or client runs on without this task, so a retry costs nothing and may start soon. A scheduler
        # that restarts tries its tasks before its API server answers: on a loaded host that took three tries in 35 s.
        kwargs.setdefault("retries", 5)
        kwargs.setdefault("retry_delay", timedelta(seconds=5))
        super().__init__(**kwargs)
        self.stage = stage
        self.wait_timeout_s = wait_timeout_s

    def wait(self, target_name: str, trigger: TargetTrigger) -> None:
        """Return when the wait is over; defer when it takes longer than the patience."""
        from wideloop.operators.targets import open_target

        deadline = time.monotonic() + open_target(target_name).patience_s
        while trigger.is_waiting():
            if time.monotonic() >= deadline:
                timeout = timedelta(seconds=self.wait_timeout_s)
                self.defer(trigger=trigger, method_name="execute_complete", timeout=timeout)
            time.sleep(_POLL_S)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """After a deferred wait. The event only says when to look: check again, and defer again while it runs."""
        self.log.debug("woken by %s", event)
        return self.execute(context)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """As Airflow does, but a wait that timed out is not retried: it holds accelerators."""
        from airflow.sdk.exceptions import AirflowFailException, TaskDeferralTimeout

        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except TaskDeferralTimeout as error:
            raise AirflowFailException(f"gave up after {self.wait_timeout_s / 3600:.1f} h: {error}") from error

    def conclude(self, context: Context) -> Any:
        """Finish, after the wait."""
        with self.reporting_failure(context):
            return self.finish(context)

    @contextmanager
    def reporting_failure(self, context: Context) -> Iterator[None]:
        """Put the reason of a failure on the timeline; a deployment that has failed is not waited for again."""
        from airflow.sdk.exceptions import AirflowFailException
        from wideloop.manifests.errors import DeploymentFailed, WideloopError
        from wideloop.operators.steps.run import end_stage
        from wideloop.operators.steps.trial import note_failure

        try:
            yield
        except WideloopError as error:
            if self.stage is not None:
                end_stage(run_of(context), self.stage, "failed", str(error))
            else:
                note_failure(run_of(context), error)
            if isinstance(error, DeploymentFailed):
                raise AirflowFailException(str(error)) from error
            raise

    @abstractmethod
    def finish(self, context: Context) -> Any:
        """What the task returns once the wait is over."""
