"""Operators that wait for a target: first by themselves, then deferred.

Most waits on a laptop end within seconds, and deferring costs two process starts; on a cluster they take
minutes, and a deferred wait survives the death of every Airflow process. So a task polls for the target's
``patience_s`` and defers after that.
"""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.triggers.base import BaseTrigger, TriggerEvent
from wideloop.operators.airflow.run_context import params_of, run_of

if TYPE_CHECKING:
    from airflow.sdk import Context
    from wideloop.operators.steps.benchmark import Measured, Subject

_POLL_S = 0.5
#: A target gives up on a start by itself (a 671B load within two hours and some minutes); a benchmark that takes
#: longer hangs. Two of these must fit into the time-out of every DAG that deploys: that one skips teardowns.
WAIT_TIMEOUT_S = 2.25 * 3600


class TargetTrigger(BaseTrigger):
    """Fires when a deployment has left ``pending`` or, given a ``client``, when that has left ``running``.

    Carries names only: specs, logs and results stay on the target.
    """

    def __init__(self, target: str, deployment: str, client: str | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.target = target
        self.deployment = deployment
        self.client = client

    def serialize(self) -> tuple[str, dict[str, Any]]:
        names = {"target": self.target, "deployment": self.deployment, "client": self.client}
        return f"{type(self).__module__}.{type(self).__qualname__}", names

    async def run(self) -> AsyncIterator[TriggerEvent]:
        from wideloop.operators.targets import target

        where = await asyncio.to_thread(target, self.target)
        while await asyncio.to_thread(self._still_waiting):
            await where.changed(self.deployment, self.client)
        yield TriggerEvent({"deployment": self.deployment})  # type: ignore[no-untyped-call]

    def _still_waiting(self) -> bool:
        """As :meth:`_waiting`. A cluster that cannot be asked has not said that anything is over."""
        from wideloop.manifests.errors import ApiUnreachable

        try:
            return self._waiting()
        except ApiUnreachable as error:
            self.log.warning("waiting on: %s", error)
            return True

    def _waiting(self) -> bool:
        from wideloop.operators.targets import target

        where = target(self.target)
        state = where.status(self.deployment).state
        if self.client is None:
            return state == "pending"
        return state != "failed" and where.client_status(self.deployment, self.client).state == "running"

    async def on_kill(self) -> None:
        """The user ended the task: end the client. The deployment itself is the teardown's business."""
        if self.client is not None:
            from wideloop.operators.targets import target

            await asyncio.to_thread(target(self.target).stop_client, self.deployment, self.client)


class TargetOperator(BaseOperator):
    """Waits for something on a target.

    Args:
        stage: of the timeline that this work belongs to; told why when it fails.
    """

    def __init__(
        self,
        *,
        stage: str | None = None,
        wait_timeout_s: float = WAIT_TIMEOUT_S,
        **kwargs: Any,
    ) -> None:
        # What is waited for goes on without this task: a retry costs nothing and may come soon.
        kwargs.setdefault("retries", 2)
        kwargs.setdefault("retry_delay", timedelta(seconds=5))
        super().__init__(**kwargs)
        self.stage = stage
        self.wait_timeout_s = wait_timeout_s

    def wait(self, target_name: str, trigger: TargetTrigger) -> None:
        """Return when the wait is over; defer when it takes longer than the patience."""
        from wideloop.operators.targets import target

        deadline = time.monotonic() + target(target_name).patience_s
        while trigger._waiting():
            if time.monotonic() >= deadline:
                timeout = timedelta(seconds=self.wait_timeout_s)
                self.defer(trigger=trigger, method_name="execute_complete", timeout=timeout)
            time.sleep(_POLL_S)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """After a deferred wait: look for oneself, the event only says when. What goes on is waited for again."""
        self.log.debug("woken by %s", event)
        return self.execute(context)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """As Airflow does, but what took too long once is not waited for again: accelerators are held meanwhile."""
        from airflow.sdk.exceptions import AirflowFailException, TaskDeferralTimeout

        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except TaskDeferralTimeout as error:
            raise AirflowFailException(f"gave up after {self.wait_timeout_s / 3600:.1f} h: {error}") from error

    def conclude(self, context: Context) -> Any:
        """Finish, after the wait."""
        with self.telling(context):
            return self.finish(context)

    @contextmanager
    def telling(self, context: Context) -> Iterator[None]:
        """Put the reason of a failure on the timeline, and do not try again to reach what has died."""
        from airflow.sdk.exceptions import AirflowFailException
        from wideloop.manifests.errors import DeploymentFailed, WideloopError
        from wideloop.operators.steps.run import end_stage

        try:
            yield
        except WideloopError as error:
            if self.stage is not None:
                end_stage(run_of(context), self.stage, "failed", str(error))
            if isinstance(error, DeploymentFailed):
                raise AirflowFailException(str(error)) from error
            raise

    @abstractmethod
    def finish(self, context: Context) -> Any:
        """What the task returns once the wait is over."""


class WaitReady(TargetOperator):
    """Waits until a deployment answers a real generation, or has died; returns an ``Outcome`` as a dict.

    Any death but running out of memory fails the task with the component's last lines. Running out of
    memory is an outcome, unless the caller has no use for it (``must_be_ready``).
    """

    template_fields: Sequence[str] = ("deployment",)

    def __init__(self, *, deployment: Any, must_be_ready: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.deployment = deployment
        self.must_be_ready = must_be_ready

    def execute(self, context: Context) -> Any:
        target_name = params_of(context)["target"]
        self.wait(target_name, TargetTrigger(target_name, self.deployment))
        return self.conclude(context)

    def finish(self, context: Context) -> Any:
        from wideloop.manifests.errors import DeploymentFailed
        from wideloop.operators.steps.deployment import outcome

        found = outcome(params_of(context)["target"], self.deployment)
        if found is None:
            raise TimeoutError(f"{self.deployment} is still starting after {self.wait_timeout_s:.0f} s")
        if found.diagnosis is not None:
            if self.must_be_ready:
                raise DeploymentFailed(self.deployment, found.diagnosis)
            self.log.warning("infeasible: %s", found.diagnosis)
        return found.model_dump(mode="json")


class Benchmark(TargetOperator):
    """Runs the load generator beside a deployment; returns what was ``Measured`` as a dict.

    A retry finds the client that an earlier try started.

    Args:
        deployment: its name.
        waited: the outcome of :class:`WaitReady`; nothing is measured of what cannot run.
        purpose, filed_as, repeat: what the measurement is filed under. record: also record the expert distribution.
        stage: of the timeline, which ends with this benchmark.
    """

    template_fields: Sequence[str] = ("deployment", "waited")

    def __init__(
        self,
        *,
        deployment: Any,
        waited: Any,
        purpose: str = "trial",
        filed_as: str = "",
        repeat: int = 0,
        record: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.deployment = deployment
        self.waited = waited
        self.purpose = purpose
        self.filed_as = filed_as
        self.repeat = repeat
        self.record = record
        self._started: Subject | None = None

    def subject(self, context: Context) -> Subject:
        """What is measured: the form's whole workload."""
        from wideloop.operators.steps import launch

        params = params_of(context)
        return launch.subject(
            params,
            run_of(context),
            self.deployment,
            self.purpose,  # type: ignore[arg-type]
            self.filed_as,
            repeat=self.repeat,
            record=self.record,
            stage=self.stage,
        )

    def execute(self, context: Context) -> Any:
        from wideloop.operators.steps import benchmark, deployment

        subject = self.subject(context)
        with self.telling(context):
            diagnosis = deployment.Outcome.model_validate(self.waited).diagnosis or benchmark.cannot_serve(subject)
            if diagnosis is not None:
                return self.result(benchmark.Measured(outcome="infeasible", diagnosis=diagnosis))
            self._started = subject
            benchmark.begin(subject)
        self.wait(subject.target, TargetTrigger(subject.target, subject.deployment, subject.client))
        return self.conclude(context)

    def finish(self, context: Context) -> Any:
        from wideloop.operators.steps import benchmark

        measured = benchmark.finish(self.subject(context), run_of(context))
        self.log.info(benchmark.summary(measured))
        return self.result(measured)

    def result(self, measured: Measured) -> Any:
        """What the task returns; a configuration that cannot run is no result of a benchmark."""
        from airflow.sdk.exceptions import AirflowFailException

        if measured.outcome == "infeasible":
            raise AirflowFailException(f"{self.deployment} cannot serve this workload: {measured.diagnosis}")
        return measured.model_dump(mode="json")

    def on_kill(self) -> None:
        from wideloop.operators.steps import benchmark

        if self._started is not None:
            benchmark.stop(self._started)


class BenchmarkTrial(Benchmark):
    """The benchmark of a trial or of its repeat, as ``asked``. That a configuration cannot run is a result."""

    template_fields: Sequence[str] = (*Benchmark.template_fields, "asked")

    def __init__(self, *, asked: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.asked = asked

    def subject(self, context: Context) -> Subject:
        from wideloop.operators.steps import trial

        return trial.subject(params_of(context), trial.Try.model_validate(self.asked), run_of(context))

    def result(self, measured: Measured) -> Any:
        return measured.model_dump(mode="json")
