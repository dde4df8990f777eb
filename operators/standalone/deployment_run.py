"""One deployment from its start to its removal, with the seconds that each part took."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from wideloop.operators.steps import benchmark, deployment
from wideloop.operators.steps.benchmark import Measured, Subject
from wideloop.operators.steps.deployment import Outcome
from wideloop.operators.steps.run import Run
from wideloop.operators.targets import open_target

_POLL_S = 0.1


@dataclass
class DeploymentRun:
    """What became of a deployment.

    Attributes:
        outcome: of its start; None when it did not get that far.
        results: of its benchmarks, in order.
        seconds: by part: ``apply``, ``start`` (until a real answer), ``client``, and the driver's own work in between.
    """

    name: str
    outcome: Outcome | None = None
    results: list[Measured] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def last(self) -> Measured | None:
        return self.results[-1] if self.results else None

    @property
    def overhead_s(self) -> float:
        """Everything but the engine's start and the client's run."""
        return sum(s for part, s in self.seconds.items() if part not in ("start", "client"))

    @contextlib.contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Add the seconds of a ``with`` block to ``part``."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[part] = self.seconds.get(part, 0.0) + time.monotonic() - began


@dataclass(frozen=True)
class Hooks:
    """What the caller does at four moments of a deployment's life.

    Attributes:
        while_starting: the engine has been applied and starts, which takes it a while.
        before_teardown: all measurements went well and the deployment still serves.
        at_teardown: just before it is removed, whatever became of it.
        after_teardown: its accelerators are free again.
    """

    while_starting: Callable[[], None] = lambda: None
    before_teardown: Callable[[], None] = lambda: None
    at_teardown: Callable[[], None] = lambda: None
    after_teardown: Callable[[], None] = lambda: None


def run_deployment(
    target_name: str,
    run: Run,
    apply: Callable[[], object],
    subjects: Sequence[Subject],
    deployment_run: DeploymentRun,
    hooks: Hooks,
) -> None:
    """Start a deployment, measure ``subjects`` one after the other, and remove it whatever happens.

    Args:
        deployment_run: is filled in on the way, also when this raises.

    Raises:
        WideloopError: a failure that says nothing about the configuration.
    """
    try:
        with deployment_run.timed("apply"):
            apply()
        with deployment_run.timed("stand_by"):
            hooks.while_starting()
        with deployment_run.timed("start"):
            deployment_run.outcome = _wait_until_started(target_name, deployment_run.name)
        if deployment_run.outcome.state == "ready" and all(_measure(s, run, deployment_run) for s in subjects):
            with deployment_run.timed("look"):
                hooks.before_teardown()
    finally:
        try:
            with deployment_run.timed("keep"):
                hooks.at_teardown()
        finally:
            with deployment_run.timed("delete"):
                deployment.delete(target_name, deployment_run.name, run)
            hooks.after_teardown()


def _measure(subject: Subject, run: Run, deployment_run: DeploymentRun) -> bool:
    """Benchmark ``subject``; whether the deployment still serves afterwards."""
    diagnosis = benchmark.cannot_serve(subject)
    if diagnosis is not None:
        deployment_run.results.append(Measured(outcome="infeasible", diagnosis=diagnosis))
        return False
    with deployment_run.timed("begin"):
        benchmark.begin(subject)
    target = open_target(subject.target)
    with deployment_run.timed("client"):
        while (
            target.client_status(subject.deployment, subject.client).state == "running"
            and target.status(subject.deployment).state != "failed"
        ):
            time.sleep(_POLL_S)
    with deployment_run.timed("finish"):
        result = benchmark.finish(subject, run)
    deployment_run.results.append(result)
    return result.outcome == "measured"


def _wait_until_started(target_name: str, name: str) -> Outcome:
    while (outcome := deployment.outcome(target_name, name)) is None:
        time.sleep(_POLL_S)
    return outcome
