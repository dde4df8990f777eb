"""When a sweep ends before it has made all its trials: its budget is spent, or nothing is left to gain."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from wideloop.operators.request import Request
from wideloop.operators.steps.plan import open_study
from wideloop.operators.steps.run import Run, open_store
from wideloop.results.records import Trial

#: Results from which the expected gain is believed.
_ENOUGH = 10


def stop_reason(request: Request, run: Run) -> str | None:
    """Why no further trial of this run's cycle should be started; None while one should."""
    with open_store() as store:
        trials = [t for t in store.trials(study=run.cycle_id) if t.ended_at is not None]
    return _spent(request, trials) or _late(request, trials) or _no_gain(request, run)


def _spent(request: Request, trials: Sequence[Trial]) -> str | None:
    if request.max_gpu_hours is None or not trials:
        return None
    hours = [t.gpu_seconds / 3600 for t in trials]
    spent, next_one = sum(hours), max(hours)
    if spent + next_one <= request.max_gpu_hours:
        return None
    limit = f"max_gpu_hours is {request.max_gpu_hours:g}"
    return f"{spent:.2f} GPU-hours are spent and a trial took up to {next_one:.2f}; {limit}"


def _late(request: Request, trials: Sequence[Trial]) -> str | None:
    if request.max_hours is None or not trials:
        return None
    hours = (datetime.now(UTC) - min(t.started_at for t in trials)).total_seconds() / 3600
    if hours < request.max_hours:
        return None
    return f"the first trial began {hours:.2f} hours ago; max_hours is {request.max_hours:g}"


def _no_gain(request: Request, run: Run) -> str | None:
    if not request.least_gain:
        return None
    study = open_study(request, run)
    if len(study.results()) < _ENOUGH:
        return None
    gain = study.expected_gain()
    if gain is None or gain >= request.least_gain:
        return None
    return f"another trial is expected to gain {gain:.2%}; least_gain is {request.least_gain:.2%}"
