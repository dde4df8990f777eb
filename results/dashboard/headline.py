"""The headline of a page: the recommendation in one sentence, the progress, or why there is no result."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel
from wideloop.results.dashboard.finished import finished
from wideloop.results.dashboard.formats import percent
from wideloop.results.dashboard.kinds import kind_of
from wideloop.results.dashboard.levels import LevelRow
from wideloop.results.dashboard.trials import TrialRow
from wideloop.results.records import Cycle, Recommendation, Recording, Stage


class Headline(BaseModel):
    """``kind`` chooses the card's colour; ``details`` are log lines, shown as such."""

    kind: Literal["running", "adopt", "keep default", "inconclusive", "failed", "no result"]
    sentence: str
    reason: str = ""
    details: str = ""
    stage: str = ""


class Progress(BaseModel):
    """How far a running cycle is. ``done`` counts trials that have ended, with any outcome.

    ``planned`` is 0 for a run without trials, although every request has a number of trials.
    """

    stage: str
    done: int
    planned: int
    best_label: str | None = None
    best_number: int | None = None
    best_tok_s_per_gpu: float | None = None
    default_tok_s_per_gpu: float | None = None


def headline(
    cycle: Cycle,
    stages: Sequence[Stage],
    shown: Sequence[TrialRow],
    recommendation: Recommendation | None,
    measured: Sequence[LevelRow] = (),
    recordings: Sequence[Recording] = (),
) -> Headline:
    """The headline of a cycle. A failure takes precedence: the failed stage may have made the recommendation."""
    failed = next((s for s in stages if s.state == "failed"), None)
    if cycle.state == "failed":
        return _failure(failed, cycle)
    if recommendation:
        return Headline(kind=recommendation.verdict, sentence=_verdict(recommendation), reason=recommendation.reason)
    if cycle.state == "running":
        state = progress(cycle, stages, shown)
        if state.stage == "tune" and state.planned:
            current = min(state.done + 1, state.planned)
            return Headline(
                kind="running", sentence=f"Trial {current} of {state.planned} is running", stage=state.stage
            )
        sentence = f"Stage '{state.stage}' is running" if stages else "The run has begun"
        return Headline(kind="running", sentence=sentence, stage=state.stage)
    sentence, reason = finished(cycle, kind_of(cycle.dag_id), stages, shown, measured, recordings)
    return Headline(kind="no result", sentence=sentence, reason=reason)


def progress(cycle: Cycle, stages: Sequence[Stage], shown: Sequence[TrialRow]) -> Progress:
    """Stage, trials done, and the best configuration so far."""
    running = [s.name for s in stages if s.state == "running"]
    best = next((row for row in shown if row.is_best), None)
    default = next((row for row in shown if row.is_default and row.tok_s_per_gpu is not None), None)
    return Progress(
        stage=running[-1] if running else "starting" if not stages else stages[-1].name,
        done=sum(row.mark != "running" for row in shown),
        planned={"cycle": cycle.planned_trials, "sweep": cycle.planned_trials, "trial": 1}.get(
            kind_of(cycle.dag_id), 0
        ),
        best_label=best.label if best else None,
        best_number=best.number if best else None,
        best_tok_s_per_gpu=best.tok_s_per_gpu if best else None,
        default_tok_s_per_gpu=default.tok_s_per_gpu if default else None,
    )


def _verdict(rec: Recommendation) -> str:
    if rec.verdict == "adopt":
        gain = f"{percent(rec.gain)} output tok/s per GPU over the default"
        return f"Use trial {rec.trial_number}'s configuration: {gain}"
    if rec.verdict == "keep default":
        return "Keep the default configuration"
    return f"Not proven: trial {rec.trial_number}'s configuration measured {percent(rec.gain)} against the default"


def _failure(failed: Stage | None, cycle: Cycle) -> Headline:
    if failed is None:
        return Headline(
            kind="failed",
            sentence="The cycle failed" if kind_of(cycle.dag_id) == "cycle" else "The run failed",
            reason=f"No stage recorded why; see the task logs of run {cycle.dag_run_id} of {cycle.dag_id}.",
        )
    reason, _, details = failed.detail.partition("\n")
    return Headline(
        kind="failed",
        sentence=f"Stage '{failed.name}' failed",
        reason=reason,
        details=textwrap.dedent(details),
        stage=failed.name,
    )
