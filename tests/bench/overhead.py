"""What a trial costs beyond its engine's start and its client: arithmetic on recorded times only."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from tests.bench.figure import Figure, parts

LIMIT_S = 15.0
#: Tasks of a trial in the order they run; the last two run side by side.
TASKS = (ASK, APPLY, READY, BENCHMARK, TELL, DELETE) = (
    "ask_study",
    "apply_deployment",
    "wait_until_ready",
    "benchmark",
    "tell_study",
    "delete_deployment",
)


@dataclass(frozen=True)
class Span:
    """From one moment to a later one."""

    start: datetime
    end: datetime

    @property
    def seconds(self) -> float:
        return (self.end - self.start).total_seconds()


@dataclass(frozen=True)
class TrialTimes:
    """One trial's DAG run.

    Attributes:
        number: of the trial.
        run: from the run's start (not from its queueing) to its end.
        tasks: by task id, from a task's first start to its last end: a deferred wait counts as part of it.
        start_s: seconds from apply to the engine's first answer. client_s: seconds the load generator ran.
    """

    number: int
    run: Span
    tasks: dict[str, Span]
    start_s: float
    client_s: float

    @property
    def overhead_s(self) -> float:
        """Everything that is neither engine start nor client."""
        return self.run.seconds - self.start_s - self.client_s


def breakdown(trial: TrialTimes) -> dict[str, float]:
    """The parts of :attr:`TrialTimes.overhead_s` in seconds; they add up to it exactly.

    The engine starts while ``apply_deployment`` ends and ``wait_until_ready`` begins, so the time between these two
    tasks counts with them and not as waiting for the scheduler.
    """
    task = trial.tasks
    closing = Span(min(task[TELL].start, task[DELETE].start), max(task[TELL].end, task[DELETE].end))
    deploying = Span(task[APPLY].start, task[READY].end)
    steps = [task[ASK], deploying, task[BENCHMARK], closing]
    edges = [trial.run.start, *(moment for s in steps for moment in (s.start, s.end)), trial.run.end]
    waiting = sum(Span(a, b).seconds for a, b in zip(edges[::2], edges[1::2], strict=True))
    return {
        "ask": task[ASK].seconds,
        "apply and ready beyond the engine's start": deploying.seconds - trial.start_s,
        "benchmark beyond the client": task[BENCHMARK].seconds - trial.client_s,
        "tell and delete side by side": closing.seconds,
        "waiting for the scheduler between tasks": waiting,
    }


def between(runs: Sequence[Span]) -> list[float]:
    """Seconds from the end of each run to the start of the next one, for runs that do not overlap."""
    return [Span(a.end, b.start).seconds for a, b in pairwise(sorted(runs, key=lambda r: r.start))]


def figures(trials: Sequence[TrialTimes], runs: Sequence[Span], retried: int) -> list[Figure]:
    """The overhead per trial and what it is made of.

    Args:
        trials: those that started an engine and ran a client; at least one.
        runs: all runs of the sweep, also those whose engine died: how long it took to die is not recorded.
        retried: tasks of trial runs that had to be tried again; earlier tries count as waiting.
    """
    ordered = sorted(trials, key=lambda t: t.overhead_s)
    largest = ordered[-1]
    total = [t.overhead_s for t in ordered]
    by_part = [breakdown(t) for t in trials]
    medians = {name: statistics.median(b[name] for b in by_part) for name in by_part[0]}
    alone = {name: statistics.median(t.tasks[name].seconds for t in trials) for name in TASKS}
    waits = {
        "engine start": statistics.median(t.start_s for t in trials),
        "client": statistics.median(t.client_s for t in trials),
    }
    counted = (
        f"{total[0]:.1f} to {total[-1]:.1f} s over {len(trials)} trials ({len(runs) - len(trials)} runs that measured "
        f"nothing left out, {retried} tasks retried); the run's duration less engine start and client"
    )
    rows = [
        Figure(
            "our overhead per trial, median",
            LIMIT_S,
            statistics.median(total),
            "s",
            f"{counted}; medians of the parts: {parts(medians, 's')}",
        ),
        Figure(
            "our overhead per trial, largest",
            LIMIT_S,
            largest.overhead_s,
            "s",
            f"trial {largest.number}: {parts(breakdown(largest), 's')}",
        ),
        Figure(
            "trial run, median",
            None,
            statistics.median(t.run.seconds for t in trials),
            "s",
            f"medians: {parts(waits, 's')}; tasks: {parts(alone, 's')} (tell and delete run side by side, the "
            "engine starts during apply_deployment and wait_until_ready, the client runs during benchmark)",
        ),
    ]
    if gaps := between(runs):
        text = f"median of {len(gaps)}, {min(gaps):.1f} to {max(gaps):.1f} s; the next run is queued already"
        rows.append(Figure("from one trial's run to the next", None, statistics.median(gaps), "s", text))
    return rows
