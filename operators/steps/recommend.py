"""The recommendation of a cycle, with its uncertainty."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from wideloop.operators.request import Request
from wideloop.operators.steps.plan import open_study
from wideloop.operators.steps.run import Run, artefacts, open_store
from wideloop.operators.steps.trial import violations
from wideloop.results.records import Measurement, Recommendation, Trial
from wideloop.results.statistics import conclude, paired_gain


def recommend(params: Mapping[str, Any], run: Run) -> Recommendation:
    """Compare the repeats of the best trial and of the default, pair by pair, and store the conclusion."""
    request = Request.from_params(params)
    study = open_study(request, run)
    best = study.best()
    if best is None:
        raise LookupError("no trial met the objectives")
    with open_store() as store:
        trials = {t.number: t for t in store.trials(study=run.cycle_id)}
        repeats = store.measurements(cycle_id=run.cycle_id, purpose="repeat")
    default = _default_trial(trials)
    conclusion: dict[str, Any]
    if default is not None and best.number == default.number:
        conclusion = _unpaired("keep default", "no trial beat the default configuration", 0.0)
    else:
        of_best = _top_by_repeat(repeats, best.number)
        of_default = _top_by_repeat(repeats, default.number if default else -1)
        conclusion = _conclude(request, of_best, of_default, _ratio(trials, best.number, default))
    recommendation = Recommendation(
        cycle_id=run.cycle_id,
        study=run.cycle_id,
        trial_number=best.number,
        knobs=trials[best.number].knobs,
        default_knobs=default.knobs if default else {},
        simulated=request.simulated,
        created_at=datetime.now(UTC),
        **conclusion,
    )
    with open_store() as store:
        store.put(recommendation)
    artefacts().put_json(recommendation.model_dump(mode="json"), "cycles", run.cycle_id, "recommendation.json")
    return recommendation


def _conclude(
    request: Request, of_best: dict[int, Measurement], of_default: dict[int, Measurement], explored: float
) -> dict[str, Any]:
    """The conclusion from the repeats of both; ``explored`` is the gain that the trials alone showed."""
    pairs = sorted(of_best.keys() & of_default.keys())
    if len(pairs) < 2:
        reason = f"only {len(pairs)} pair(s) of repeats were measured; an interval needs at least 2"
        return _unpaired("inconclusive", reason, explored)
    best = [of_best[k].output_tok_s_per_gpu for k in pairs]
    default = [of_default[k].output_tok_s_per_gpu for k in pairs]
    slo_met = all(v <= 0 for k in pairs for v in violations(of_best[k], request.slo).values())
    gain = paired_gain(best, default)
    judged = conclude(gain, default, slo_met=slo_met)
    return {
        "verdict": judged.verdict,
        "reason": judged.reason,
        "gain": gain.gain,
        "gain_low": gain.low,
        "gain_high": gain.high,
        "confidence": gain.confidence,
        "pairs": gain.pairs,
        "slo_met": slo_met,
    }


def _unpaired(kind: str, reason: str, gain: float) -> dict[str, Any]:
    """A conclusion without an interval: its confidence is 0. The best trial is feasible by definition: slo_met."""
    bounds = {"gain": gain, "gain_low": gain, "gain_high": gain, "confidence": 0.0, "pairs": 0}
    return {"verdict": kind, "reason": reason, "slo_met": True, **bounds}


def _top_by_repeat(repeats: list[Measurement], number: int) -> dict[int, Measurement]:
    """The valid measurement at the highest concurrency, by repeat."""
    level = max((m.concurrency for m in repeats), default=0)
    return {m.repeat: m for m in repeats if m.trial_number == number and m.concurrency == level and m.valid}


def _ratio(trials: dict[int, Trial], number: int, default: Trial | None) -> float:
    value, base = trials[number].value, default.value if default else None
    return value / base - 1 if value and base else 0.0


def _default_trial(trials: Mapping[int, Trial]) -> Trial | None:
    # An earlier trial of the default may have failed for another reason than its configuration.
    return next((t for t in trials.values() if t.is_default and t.value is not None), None)
