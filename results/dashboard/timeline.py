"""The time and the GPU time that each stage and trial of a cycle took."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pydantic import BaseModel
from wideloop.results.records import Cycle, Stage, StageState, Trial, TrialState

#: The stage in which the trials run.
TUNE = "tune"


class Bar(BaseModel):
    """A stage or trial on the timeline; ``left`` and ``width`` are percent of the cycle's length."""

    name: str
    state: StageState | TrialState
    detail: str
    started_at: datetime
    seconds: float
    gpu_minutes: float | None
    left: float
    width: float


class Timeline(BaseModel):
    """Stages in order, the trials beneath them, and the sums. Times in seconds, GPU time in minutes."""

    stages: list[Bar]
    trials: list[Bar]
    seconds: float
    trial_gpu_minutes: float
    wasted_gpu_minutes: float
    wasted_trials: int


def timeline(cycle: Cycle, stages: Sequence[Stage], trials: Sequence[Trial], now: datetime) -> Timeline:
    """Lay out ``stages`` and ``trials``; those that run end at ``now``.

    ``wasted_gpu_minutes`` is the GPU time of infeasible and failed trials, which have no measurement.
    """
    ends = (
        [cycle.ended_at or now]
        + [s.ended_at for s in stages if s.ended_at]
        + [t.ended_at for t in trials if t.ended_at]
    )
    total = max((max(ends) - cycle.started_at).total_seconds(), 1.0)
    wasted = [t for t in trials if t.state in ("infeasible", "failed")]
    sum_of_trials = sum(t.gpu_seconds for t in trials)

    def bar(item: Stage | Trial, name: str, detail: str, gpu_seconds: float | None) -> Bar:
        seconds = ((item.ended_at or cycle.ended_at or now) - item.started_at).total_seconds()
        left = (item.started_at - cycle.started_at).total_seconds() / total * 100
        return Bar(
            name=name,
            state=item.state,
            detail=detail,
            started_at=item.started_at,
            seconds=max(seconds, 0.0),
            gpu_minutes=None if gpu_seconds is None else gpu_seconds / 60,
            left=min(max(left, 0.0), 100.0),
            width=max(seconds, 0.0) / total * 100,
        )

    return Timeline(
        stages=[bar(s, s.name, s.detail, _gpu_seconds(s, trials)) for s in stages],
        trials=[bar(t, f"trial {t.number}", t.reason, t.gpu_seconds) for t in trials],
        seconds=((cycle.ended_at or now) - cycle.started_at).total_seconds(),
        trial_gpu_minutes=sum_of_trials / 60,
        wasted_gpu_minutes=sum(t.gpu_seconds for t in wasted) / 60,
        wasted_trials=len(wasted),
    )


def _gpu_seconds(stage: Stage, trials: Sequence[Trial]) -> float | None:
    """The stage's own count; for the sweep without one, the sum of its trials (the default may be the baseline's)."""
    if stage.gpu_seconds is not None or stage.name != TUNE:
        return stage.gpu_seconds
    return sum(t.gpu_seconds for t in trials if t.started_at >= stage.started_at)
