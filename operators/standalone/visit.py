"""One deployment from its start to its end, with the seconds that each part took."""

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
class Visit:
    """What became of a deployment.

    Attributes:
        seconds: by part: ``apply``, ``start`` (until a real answer), ``client``, and what is ours in between.
    """

    name: str
    outcome: Outcome | None = None
    measured: list[Measured] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def last(self) -> Measured | None:
        return self.measured[-1] if self.measured else None

    @property
    def overhead_s(self) -> float:
        """Everything but the engine's start and the client's run."""
        return sum(s for part, s in self.seconds.items() if part not in ("start", "client"))

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - began


def visit(
    target_name: str,
    name: str,
    run: Run,
    apply: Callable[[], object],
    subjects: Sequence[Subject],
    *,
    meanwhile: Callable[[], None] = lambda: None,
    before_end: Callable[[], None] = lambda: None,
    at_end: Callable[[], None] = lambda: None,
    afterwards: Callable[[Visit], None] = lambda _seen: None,
    seen: Visit | None = None,
) -> Visit:
    """Start a deployment, measure ``subjects`` one after the other, and give the accelerators back whatever happens.

    Args:
        meanwhile: called once the engine is starting, which takes it a while.
        before_end: called while the deployment still serves, after the last measurement.
        at_end: called before it is removed, whatever became of it.
        afterwards: called when its accelerators are free again, with all that was seen.
        seen: what was done for this deployment before; it is filled in as the visit goes on.

    Raises:
        WideloopError: something failed that says nothing about the configuration.
    """
    seen = seen or Visit(name)
    try:
        with seen.part("apply"):
            apply()
        with seen.part("stand_by"):
            meanwhile()
        with seen.part("start"):
            seen.outcome = _ready(target_name, name)
        for subject in subjects if seen.outcome.state == "ready" else ():
            if not _measure(subject, run, seen):
                break
        else:
            if seen.outcome.state == "ready":
                with seen.part("look"):
                    before_end()
    finally:
        try:
            with seen.part("keep"):
                at_end()
        finally:
            with seen.part("delete"):
                deployment.delete(target_name, name)
            afterwards(seen)
    return seen


def _measure(subject: Subject, run: Run, seen: Visit) -> bool:
    """Whether the deployment still serves afterwards."""
    diagnosis = benchmark.cannot_serve(subject)
    if diagnosis is not None:
        seen.measured.append(Measured(outcome="infeasible", diagnosis=diagnosis))
        return False
    with seen.part("begin"):
        benchmark.begin(subject)
    target = open_target(subject.target)
    with seen.part("client"):
        while (
            target.client_status(subject.deployment, subject.client).state == "running"
            and target.status(subject.deployment).state != "failed"
        ):
            time.sleep(_POLL_S)
    with seen.part("finish"):
        seen.measured.append(benchmark.finish(subject, run))
    return seen.measured[-1].outcome == "measured"


def _ready(target_name: str, name: str) -> Outcome:
    while (found := deployment.outcome(target_name, name)) is None:
        time.sleep(_POLL_S)
    return found
