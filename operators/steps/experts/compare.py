"""Compare experts in order and placed: throughput in pairs, proof of the placement, answers unchanged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wideloop.manifests.errors import WideloopError
from wideloop.operators.request import Request
from wideloop.operators.steps.experts.examination import Examined
from wideloop.operators.steps.experts.proof import prove
from wideloop.operators.steps.run import Run, artefacts, open_store
from wideloop.results.experts.comparison import Comparison, Level, changes, concluded
from wideloop.results.experts.outputs import Outputs, compared
from wideloop.results.records import Measurement


def compare(params: Mapping[str, Any], before: Examined, after: Examined, run: Run) -> Comparison:
    """Compare the measurements and examinations of both sides; the result is stored as an artefact.

    Raises:
        WideloopError: a side was not measured, or a gate of its measurement failed.
    """
    request = Request.from_params(params)
    with open_store() as store:
        measured = store.measurements(cycle_id=run.cycle_id, purpose="experts")
    comparison = Comparison(
        simulated=request.simulated,
        eplb="online" if request.eplb == "online" else "static",
        levels=_levels(measured),
        proofs=prove(request, before.recordings, after.recordings, run) if after.recordings else {},
        outputs=_outputs(before, after),
        rebalances=after.rebalances,
    )
    comparison = comparison.model_copy(update={"verdict": concluded(comparison)})
    artefacts().put_json(comparison.model_dump(mode="json"), "cycles", run.cycle_id, "experts", "comparison.json")
    return comparison


def _levels(measured: list[Measurement]) -> tuple[Level, ...]:
    broken = sorted({f"{m.label} at {m.concurrency}: {g.name}" for m in measured for g in m.gates if not g.ok})
    if broken:
        raise WideloopError(f"nothing to compare: {'; '.join(broken)}")
    try:
        return changes(measured)
    except ValueError as problem:
        raise WideloopError(f"nothing to compare: {problem}") from problem


def _outputs(before: Examined, after: Examined) -> Outputs | None:
    """None where a side gave no answers."""
    if before.answers is None or after.answers is None:
        return None
    (first, again), (other, _) = (artefacts().read_json(uri)["rounds"] for uri in (before.answers, after.answers))
    common = min(len(first), len(other))
    return compared(first[:common], again[:common], other[:common])
