"""Which trial runs a sweep still needs: computed from the study each time, for controllers without state."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict
from wideloop.manifests.deployment import DeploymentSpec
from wideloop.operators.request import Request
from wideloop.operators.steps.confirmation import read_confirmation, rounds_wanted
from wideloop.operators.steps.cycle_plan import interleaved
from wideloop.operators.steps.experts import placements
from wideloop.operators.steps.finalists import SweepFailed, read_finalists
from wideloop.operators.steps.plan import open_study
from wideloop.operators.steps.run import Run, open_store
from wideloop.operators.steps.stopping import stop_reason
from wideloop.operators.steps.trial import DEFAULT, violations
from wideloop.results.records import Measurement, Trial
from wideloop.tuning.seeds import seed_points
from wideloop.tuning.space import Point, decoder, knobs_shown, point_of

log = logging.getLogger(__name__)
#: Trial runs beyond the planned ones that may replace failed ones.
_SPARE_RUNS = 4
#: First number of the repeats of the second finalist; the third one's begin at twice this.
_REPEATS_OF_NEXT = 100


class TrialRun(BaseModel):
    """One run of ``wideep_trial``. The id does not depend on who computes it, so no run is started twice."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    extra: dict[str, Any]


def prepare_study(params: Mapping[str, Any], run: Run) -> None:
    """Give the study its first points: the measured baseline (or the default to be measured) and the seeds."""
    request = Request.from_params(params)
    spec = request.spec("study")
    study = open_study(request, run)
    default = point_of(spec, study.space)
    if not study.space.contains(default):
        raise SweepFailed(f"the default {default} lies outside the space of study {run.cycle_id}: start a new study")
    baseline = _baseline(run)
    if baseline is not None:
        constraints = violations(baseline, request.slo)
        number = study.add_measured(default, baseline.output_tok_s_per_gpu, constraints, DEFAULT)
        _keep_default(run, spec, number, default, baseline, constraints)
    else:
        study.enqueue(default, DEFAULT)
    recorded = bool(placements(run).files)
    batch = -(-max(request.workload.concurrency) // decoder(spec).layout.dp)
    for seed in seed_points(study.space, default, study.physics, batch=batch, recorded=recorded):
        study.enqueue(*seed)


def _baseline(run: Run) -> Measurement | None:
    """The cycle's baseline at the highest concurrency; None when there is no valid one."""
    with open_store() as store:
        measurements = store.measurements(cycle_id=run.cycle_id, purpose="baseline")
    top = max(measurements, key=lambda m: m.concurrency, default=None)
    return top if top is not None and top.valid else None


def _keep_default(
    run: Run, spec: DeploymentSpec, number: int, point: Point, top: Measurement, constraints: dict[str, float]
) -> None:
    """Store the baseline as the study's default trial, so that it is not measured again as one."""
    seconds = (top.ended_at - top.started_at).total_seconds()
    trial = Trial(
        study=run.cycle_id,
        number=number,
        cycle_id=run.cycle_id,
        dag_run_id=run.run_id,
        point=point,
        knobs=knobs_shown(spec, point),
        state="complete",
        value=top.output_tok_s_per_gpu,
        concurrency=top.concurrency,
        constraints=constraints,
        is_default=True,
        deployment=top.deployment,
        gpu_seconds=seconds * spec.gpus,
        started_at=top.started_at,
        ended_at=top.ended_at,
    )
    with open_store() as store:
        store.put(trial)


def trial_runs(params: Mapping[str, Any], run: Run, failed_runs: int) -> list[TrialRun]:
    """The runs that make the planned number of trials, given how many runs have failed so far."""
    request = Request.from_params(params)
    measured_before = 0 if _baseline(run) is None else 1
    count = request.trials - measured_before + min(failed_runs, _SPARE_RUNS)
    return [TrialRun(run_id=f"{run.cycle_id}__trial_{k:03d}", extra={}) for k in range(count)]


def due_trials(params: Mapping[str, Any], run: Run, waiting: Sequence[TrialRun]) -> list[TrialRun]:
    """Those of the ``waiting`` trials that are wanted now: none once the sweep has a reason to end."""
    reason = stop_reason(Request.from_params(params), run) if waiting else None
    if reason is None:
        return list(waiting)
    log.info("no further trial: %s", reason)
    return []


def repeat_runs(params: Mapping[str, Any], run: Run, failed_runs: int, *, also: Sequence[str] = ()) -> list[TrialRun]:
    """All repeats that may be measured: of the default and the best, interleaved so that drift cancels; then of others.

    A failed run breaks its pair, so each brings one more pair. Where the best fails its repeats, pairs of the next one
    follow, with numbers of their own. :func:`due_repeats` says which of them are wanted. None where no trial met the
    objectives.

    Args:
        also: kinds of further seeds to repeat beside the default afterwards; one that could not run is left out.

    Raises:
        SweepFailed: there is nothing to compare with.
    """
    request = Request.from_params(params)
    finalists = read_finalists(request, run)
    if finalists.best is None:
        return []
    study, default = finalists.study, finalists.default
    could_run = {result.number for result in study.results() if result.outcome == "measured"}
    others = [
        number
        for kind in also
        if (number := study.number_of(kind)) in could_run and number not in (default, *finalists.tried)
    ]
    labels = {default: "default", finalists.tried[0]: "best"}
    most = request.repeats + min(failed_runs, _SPARE_RUNS)
    pairs = [
        (repeat + _REPEATS_OF_NEXT * rank, number)
        for rank, best in enumerate(finalists.tried)
        for repeat, number in interleaved((default, best), most if best != default else 0)
    ]
    of_others = interleaved(others, min(request.min_repeats, request.repeats))
    return [
        TrialRun(
            run_id=f"{run.cycle_id}__repeat_{repeat:02d}_{labels.get(number, number)}",
            extra={"repeat_of": number, "repeat": repeat},
        )
        for repeat, number in (*pairs, *of_others)
    ]


def due_repeats(params: Mapping[str, Any], run: Run, waiting: Sequence[TrialRun]) -> list[TrialRun]:
    """Those of the ``waiting`` repeats that are wanted now: none of the best once its gain is decided."""
    request = Request.from_params(params)
    finalists = read_finalists(request, run)
    if finalists.best is None:
        return []
    wanted = rounds_wanted(request, read_confirmation(request, run, finalists.best, finalists.default))
    first = _REPEATS_OF_NEXT * (len(finalists.tried) - 1)
    of_pairs = [w for w in waiting if w.extra["repeat_of"] in (finalists.default, *finalists.tried)]
    current = [w.extra["repeat"] for w in of_pairs if w.extra["repeat"] >= first]
    rounds = list(dict.fromkeys(current))[:wanted]
    return [w for w in waiting if w not in of_pairs or w.extra["repeat"] in rounds]


def settle(params: Mapping[str, Any], run: Run, failed_runs: Sequence[str]) -> None:
    """Close the trials of runs that ended without telling the study (killed, or failed by hand)."""
    study = open_study(Request.from_params(params), run)
    lost = {number for failed in failed_runs if (number := study.abandon(failed)) is not None}
    with open_store() as store:
        left = [t for t in store.trials(study=run.cycle_id) if t.number in lost and t.state == "running"]
        ended = {
            "state": "failed",
            "reason": "its DAG run ended without reporting a result",
            "ended_at": datetime.now(UTC),
        }
        store.put(*(t.model_copy(update=ended) for t in left))


def progress(params: Mapping[str, Any], run: Run) -> str:
    """One line for the log: trials finished, and the best so far."""
    request = Request.from_params(params)
    results = open_study(request, run).results()
    best = max((r for r in results if r.feasible), key=lambda r: r.value, default=None)
    best_so_far = (
        f"best so far: trial {best.number} with {best.value:.1f} tok/s per GPU" if best else "none feasible yet"
    )
    return ("SIMULATED " if request.simulated else "") + f"trials {len(results)}/{request.trials}, {best_so_far}"
