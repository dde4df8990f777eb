"""The recommendation of a cycle, with its uncertainty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from wideloop.operators.request import Request
from wideloop.operators.steps.answers import compare_answers
from wideloop.operators.steps.confirmation import Confirmation, read_confirmation
from wideloop.operators.steps.finalists import Finalists, closest_miss, read_finalists
from wideloop.operators.steps.run import Run, artefacts, open_store
from wideloop.results.experts.outputs import Outputs
from wideloop.results.records import Recommendation, Trial
from wideloop.tuning.choice import EQUAL


def recommend(params: Mapping[str, Any], run: Run) -> Recommendation:
    """Compare the repeats of the best trial and of the default, pair by pair, and store the conclusion."""
    request = Request.from_params(params)
    finalists = read_finalists(request, run)
    with open_store() as store:
        trials = {t.number: t for t in store.trials(study=run.cycle_id)}
    default = _default_trial(trials)
    best = finalists.best
    conclusion: dict[str, Any]
    if best is None:
        closest, reason = closest_miss(finalists.study)
        best = closest.number
        conclusion = {**_unpaired("inconclusive", reason, _ratio(trials, best, default)), "slo_met": False}
    elif best == finalists.default:
        conclusion = _unpaired("keep default", "no trial beat the default configuration", 0.0)
    else:
        confirmation = read_confirmation(request, run, best, finalists.default)
        conclusion = _conclude(request, confirmation, _ratio(trials, best, default))
        conclusion = _judged_by_answers(conclusion, compare_answers(run, best, finalists.default))
        conclusion["reason"] += _beside(finalists)
    recommendation = Recommendation(
        cycle_id=run.cycle_id,
        study=run.cycle_id,
        trial_number=best,
        knobs=trials[best].knobs,
        default_knobs=default.knobs if default else {},
        simulated=request.simulated,
        created_at=datetime.now(UTC),
        **conclusion,
    )
    with open_store() as store:
        store.put(recommendation)
    artefacts().put_json(recommendation.model_dump(mode="json"), "cycles", run.cycle_id, "recommendation.json")
    return recommendation


def _beside(finalists: Finalists) -> str:
    """What a reader should know of the other configurations: those that failed before, and those as good."""
    failed, equal = finalists.tried[:-1], finalists.equal
    before = f"; trial {_listed(failed)} was expected to be better and failed its repeats" if failed else ""
    ties = (
        f"; trial {_listed(equal)} is as good within {EQUAL:.0%}, and changes more or has less to spare"
        if equal
        else ""
    )
    return before + ties


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _conclude(request: Request, confirmation: Confirmation, explored: float) -> dict[str, Any]:
    """The conclusion from the repeats of both; ``explored`` is the gain that the trials alone showed."""
    conclusion, gain = confirmation.conclusion(request.repeats), confirmation.gain
    slo_met = confirmation.slo_met and not confirmation.failures
    if gain is None:
        return {**_unpaired(conclusion.verdict, conclusion.reason, explored), "slo_met": slo_met}
    return {
        "verdict": conclusion.verdict,
        "reason": conclusion.reason,
        "gain": gain.gain,
        "gain_low": gain.low,
        "gain_high": gain.high,
        "confidence": gain.confidence,
        "pairs": gain.pairs,
        "slo_met": slo_met,
    }


def _judged_by_answers(conclusion: dict[str, Any], outputs: Outputs | None) -> dict[str, Any]:
    """The conclusion, which is no *adopt* where the best answers otherwise than the default does."""
    if conclusion["verdict"] != "adopt" or outputs is None:
        return conclusion
    if outputs.state == "different":
        reason = f"the best configuration is faster and answers otherwise: {outputs.reason}"
        return {**conclusion, "verdict": "keep default", "reason": reason}
    return {**conclusion, "reason": f"{conclusion['reason']}; answers: {outputs.state} ({outputs.reason})"}


def _unpaired(kind: str, reason: str, gain: float) -> dict[str, Any]:
    """A conclusion without an interval: its confidence is 0. The best trial is feasible by definition: slo_met."""
    bounds = {"gain": gain, "gain_low": gain, "gain_high": gain, "confidence": 0.0, "pairs": 0}
    return {"verdict": kind, "reason": reason, "slo_met": True, **bounds}


def _ratio(trials: dict[int, Trial], number: int, default: Trial | None) -> float:
    value, base = trials[number].value, default.value if default else None
    return value / base - 1 if value and base else 0.0


def _default_trial(trials: Mapping[int, Trial]) -> Trial | None:
    # An earlier trial of the default may have failed for another reason than its configuration.
    return next((t for t in trials.values() if t.is_default and t.value is not None), None)
