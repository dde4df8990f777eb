"""Whether the engine honours a placement: the second recording against the first."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from wideloop.operators.request import Request
from wideloop.operators.steps.experts import placed_spec
from wideloop.operators.steps.experts.place import recorded
from wideloop.operators.steps.run import Run, artefacts
from wideloop.tuning.balance import balance
from wideloop.tuning.effect import effect
from wideloop.tuning.placement import read, trivial


def prove(request: Request, run: Run, second: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """By role: what ``second`` (URI of a recording by component, made with the placement) says about it.

    Raises:
        TargetError: the baseline's recording is not there.
    """
    plain = request.spec("proof")
    first = [u for u in artefacts().list("cycles", run.cycle_id, "recordings") if u.endswith(".npz")]
    proofs: dict[str, dict[str, Any]] = {}
    for worker in placed_spec(request, plain, run).workers:
        before = recorded([u for u in first if _is_of(u, worker.role, "baseline")], run).total.astype(float)
        after = recorded([u for c, u in second.items() if c.startswith(worker.role)], run).total.astype(float)
        layers, count = before.shape
        ep, knobs = worker.layout.ep, worker.knobs
        placement = read(Path(knobs.expert_placement or ""), ep, count, layers=layers)
        seen = effect(before, after, placement)
        own = trivial(layers, count, plain.worker(worker.role).knobs.redundant_experts, ep)
        proofs[worker.role] = {
            "state": seen.state,
            "reason": seen.reason,
            "correlation": float(np.median(seen.correlation)),
            "correlation_if_ignored": float(np.median(seen.permuted)),
            "balancedness_in_order": balance(before, own),
            "balancedness_predicted": balance(before, placement),
            "balancedness_recorded": balance(after, placement),
        }
    return proofs


def _is_of(uri: str, role: str, kind: str) -> bool:
    deployment, file = uri.split("/")[-2:]
    return deployment.startswith(kind) and file.startswith(role)
