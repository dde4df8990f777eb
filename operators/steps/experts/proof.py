"""Whether the engine honours a placement: the recording made with it, against the one it was made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from wideloop.manifests.hardware import Role
from wideloop.operators.request import Request, is_placed
from wideloop.operators.steps.experts.place import placed_spec, recorded
from wideloop.operators.steps.run import Run
from wideloop.results.experts.comparison import Proof
from wideloop.tuning.advice import dispatch_nodes
from wideloop.tuning.balance import balance
from wideloop.tuning.effect import effect
from wideloop.tuning.placement import read, trivial

Floats = npt.NDArray[np.floating[Any]]
#: URI of a recording by component.
Recordings = Mapping[str, str]


def prove(request: Request, before: Recordings, after: Recordings, run: Run) -> dict[str, Proof]:
    """By role: does the recording ``after`` show what the placement should make of the traffic of ``before``?

    Raises:
        TargetError: a role has no recording.
    """
    plain = request.comparable(request.spec("proof"))
    proofs: dict[str, Proof] = {}
    for worker in filter(is_placed, placed_spec(request, plain, run).workers):
        first, second = (_load(recordings, worker.role, run) for recordings in (before, after))
        layers, experts = first.shape
        ep = worker.layout.ep
        placement = read(Path(worker.knobs.expert_placement or ""), ep, experts, layers=layers)
        own_order = trivial(layers, experts, plain.worker(worker.role).knobs.redundant_experts, ep)
        shown = effect(first, second, placement)
        # Balance is of tokens as this worker's senders choose among replicas.
        placement, own_order = (replace(p, nodes=dispatch_nodes(worker)) for p in (placement, own_order))
        proofs[worker.role] = Proof(
            state=shown.state,
            reason=shown.reason,
            before=balance(first, own_order),
            predicted=balance(first, placement),
            measured=balance(second, placement),
            correlation=_median(shown.correlation),
            correlation_if_ignored=_median(shown.permuted),
        )
    return proofs


def _load(recordings: Recordings, role: Role, run: Run) -> Floats:
    """[layers, experts] of all workers of a role."""
    uris = [uri for component, uri in sorted(recordings.items()) if component.startswith(role)]
    return recorded(uris, run).total.astype(np.float64)


def _median(values: Floats) -> float | None:
    median = float(np.median(values))
    return median if np.isfinite(median) else None
