"""What placing experts was worth: throughput in pairs, the placement seen in effect, answers unchanged."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.engines import get_engine
from wideloop.manifests.errors import WideloopError
from wideloop.manifests.hardware import Role
from wideloop.operators.request import Request
from wideloop.operators.steps.experts.examination import Examined
from wideloop.operators.steps.experts.place import placed_spec, recorded
from wideloop.operators.steps.run import Run, artefacts, open_store
from wideloop.results.experts import comparison as found
from wideloop.results.experts.comparison import Comparison, Proof
from wideloop.results.experts.outputs import Outputs, compared
from wideloop.results.records import Measurement
from wideloop.tuning.balance import balance
from wideloop.tuning.effect import effect
from wideloop.tuning.placement import read, trivial

Floats = npt.NDArray[np.floating[Any]]


def compare(params: Mapping[str, Any], before: Examined, after: Examined, run: Run) -> Comparison:
    """Compare what was measured and seen with the experts in order and placed; kept as an artefact.

    Raises:
        WideloopError: a side was not measured, or not in a way that can be believed.
    """
    request = Request.from_params(params)
    plain = request.spec("compare")
    with open_store() as store:
        measured = store.measurements(cycle_id=run.cycle_id, purpose="experts")
    comparison = Comparison(
        simulated=get_engine(plain.engine).simulated,
        eplb="online" if request.eplb == "online" else "static",
        levels=_levels(measured),
        proofs=_proofs(plain, placed_spec(request, plain, run), before, after, run) if after.recordings else {},
        outputs=_outputs(before, after),
        rebalances=after.rebalances,
    )
    comparison = comparison.model_copy(update={"verdict": found.concluded(comparison)})
    artefacts().put_json(comparison.model_dump(mode="json"), "cycles", run.cycle_id, "experts", "comparison.json")
    return comparison


def _levels(measured: list[Measurement]) -> tuple[found.Level, ...]:
    broken = sorted({f"{m.label} at {m.concurrency}: {g.name}" for m in measured for g in m.gates if not g.ok})
    if broken:
        raise WideloopError(f"nothing to compare: {'; '.join(broken)}")
    try:
        return found.changes(measured)
    except ValueError as problem:
        raise WideloopError(f"nothing to compare: {problem}") from problem


def _proofs(
    plain: DeploymentSpec, placed: DeploymentSpec, before: Examined, after: Examined, run: Run
) -> dict[str, Proof]:
    """By role: is the second recording what the placement should have made of the traffic of the first?"""
    proofs: dict[str, Proof] = {}
    for worker in placed.workers:
        first, second = (_load(side, worker.role, run) for side in (before, after))
        ep, knobs = worker.layout.ep, worker.knobs
        layers, experts = first.shape
        placement = read(Path(knobs.expert_placement or ""), ep, experts, layers=layers)
        seen = effect(first, second, placement)
        own = trivial(layers, experts, plain.worker(worker.role).knobs.redundant_experts, ep)
        proofs[worker.role] = Proof(
            state=seen.state,
            reason=seen.reason,
            before=balance(first, own),
            predicted=balance(first, placement),
            measured=balance(second, placement),
        )
    return proofs


def _load(side: Examined, role: Role, run: Run) -> Floats:
    """[layers, experts] of all workers of a role."""
    uris = [uri for component, uri in sorted(side.recordings.items()) if component.startswith(role)]
    return recorded(uris, run).total.astype(np.float64)


def _outputs(before: Examined, after: Examined) -> Outputs | None:
    """None where a side gave no answers."""
    if before.answers is None or after.answers is None:
        return None
    (first, again), (other, _) = (artefacts().read_json(uri)["rounds"] for uri in (before.answers, after.answers))
    return compared(first, again, other)
