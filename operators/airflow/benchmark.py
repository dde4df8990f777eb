"""Run the load generator beside a deployment, and wait until it ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from wideloop.operators.airflow.run_context import params_of, run_of
from wideloop.operators.airflow.target_operator import TargetOperator
from wideloop.operators.airflow.triggers import TargetTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context
    from wideloop.operators.steps.benchmark import Measured, Subject


class Benchmark(TargetOperator):
    """Runs the load generator beside a deployment; returns what was ``Measured`` as a dict.

    A retry finds the client that an earlier attempt started. A deployment that dies is started and measured once more
    where ``restarts``.

    Args:
        deployment: its name.
        waited: the outcome of :class:`WaitReady`; a deployment that cannot run is not measured.
        purpose, filed_as, repeat: what the measurement is filed under. record: also record the expert distribution.
        stage: of the timeline, which ends with this benchmark.
    """

    template_fields: Sequence[str] = ("deployment", "waited")
    restarts = True

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
        """What to measure: the form's whole workload."""
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
        from wideloop.operators.steps.restart import restart_once

        subject = self.subject(context)
        # After a restart, also one by an earlier try of this task, the deployment has to come up first.
        self.wait(subject.target, TargetTrigger(subject.target, subject.deployment))
        with self.reporting_failure(context):
            diagnosis = deployment.Outcome.model_validate(self.waited).diagnosis or benchmark.cannot_serve(subject)
            if diagnosis is not None:
                return self.result(benchmark.Measured(outcome="infeasible", diagnosis=diagnosis))
            self._started = subject
            benchmark.begin(subject)
        self.wait(subject.target, TargetTrigger(subject.target, subject.deployment, subject.client))
        if self.restarts and restart_once(subject.target, subject.deployment, run_of(context), subject.client):
            return self.execute(context)
        return self.conclude(context)

    def finish(self, context: Context) -> Any:
        from wideloop.operators.steps import benchmark

        measured = benchmark.finish(self.subject(context), run_of(context))
        self.log.info(benchmark.summary(measured))
        return self.result(measured)

    def result(self, measured: Measured) -> Any:
        """What the task returns. A configuration that cannot run fails the task."""
        from airflow.sdk.exceptions import AirflowFailException

        if measured.outcome == "infeasible":
            raise AirflowFailException(f"{self.deployment} cannot serve this workload: {measured.diagnosis}")
        return _without_samples(measured)

    def on_kill(self) -> None:
        from wideloop.operators.steps import benchmark

        if self._started is not None:
            benchmark.stop(self._started)


class BenchmarkTrial(Benchmark):
    """The benchmark of a trial or of its repeat, as ``asked``. Here a configuration that cannot run is a result."""

    template_fields: Sequence[str] = (*Benchmark.template_fields, "asked")
    restarts = False  # The study asks for the configuration again.

    def __init__(self, *, asked: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.asked = asked

    def subject(self, context: Context) -> Subject:
        from wideloop.operators.steps import trial

        return trial.subject(params_of(context), trial.AskedTrial.model_validate(self.asked), run_of(context))

    def result(self, measured: Measured) -> Any:
        return _without_samples(measured)


def _without_samples(measured: Measured) -> dict[str, Any]:
    """For XCom, which holds small documents: 100 GPUs on 5 levels would be 100 KB. The store has the telemetry."""
    return measured.model_dump(mode="json", exclude={"measurements": {"__all__": {"telemetry"}}})
