"""Slots that a change of placement moves, and the arrangement of a new placement that moves fewest."""

from __future__ import annotations

from collections import Counter

import numpy as np
from wideloop.tuning.placement.placement import Floats, Ints, Placement


def moved(before: Placement, after: Placement) -> Ints:
    """Slots of each layer whose expert was not on that rank before and has to be sent there: [layers].

    Raises:
        ValueError: the placements have different shapes.
    """
    _check(before, after)
    kept = [
        [_shared(a, b) for a, b in zip(*layer, strict=True)]
        for layer in zip(before.by_rank, after.by_rank, strict=True)
    ]
    result: Ints = after.slots - np.array(kept, dtype=np.int64).sum(axis=1)
    return result


def arranged(before: Placement, after: Placement, nodes: int = 1) -> Placement:
    """``after`` with its ranks renamed, and slots within ranks reordered, so that least is moved from ``before``.

    Ranks are equal, so a set of experts may go to any of them; with ``nodes`` > 1 the ranks of a node stay
    together. The load of the hottest rank does not change.

    Raises:
        ValueError: the placements have different shapes, or the ranks do not divide by ``nodes``.
    """
    _check(before, after)
    if after.ep % nodes:
        raise ValueError(f"{after.ep} ranks do not divide into {nodes} nodes")
    experts = int(max(before.physical_to_logical.max(), after.physical_to_logical.max())) + 1
    table = np.empty_like(after.by_rank)
    for layer, (old, new) in enumerate(zip(before.by_rank, after.by_rank, strict=True)):
        overlap = np.minimum(_held(old, experts)[:, None], _held(new, experts)[None]).sum(axis=2)
        for rank, source in enumerate(_renamed(overlap, nodes)):
            table[layer, rank] = _in_place(old[rank], new[source])
    return Placement(table.reshape(after.layers, -1), after.ep)


def _renamed(overlap: Floats, nodes: int) -> Ints:
    """Which new rank each old rank becomes, for the most ``overlap`` [old ranks, new ranks]."""
    from scipy.optimize import linear_sum_assignment

    size = len(overlap) // nodes
    blocks = overlap.reshape(nodes, size, nodes, size).transpose(0, 2, 1, 3)
    within = [[linear_sum_assignment(block, maximize=True)[1] for block in row] for row in blocks]
    gain = np.array([[blocks[a, b][np.arange(size), within[a][b]].sum() for b in range(nodes)] for a in range(nodes)])
    chosen = linear_sum_assignment(gain, maximize=True)[1]
    return np.concatenate([within[a][b] + b * size for a, b in enumerate(chosen)])


def _in_place(old: Ints, new: Ints) -> Ints:
    """``new`` in an order that leaves each expert that stays in its slot."""
    left = Counter(new.tolist())
    result = np.full_like(old, -1)
    for slot, expert in enumerate(old.tolist()):
        if left[expert]:
            left[expert] -= 1
            result[slot] = expert
    result[result < 0] = list(left.elements())
    return result


def _shared(a: Ints, b: Ints) -> int:
    return (Counter(a.tolist()) & Counter(b.tolist())).total()


def _held(by_rank: Ints, experts: int) -> Ints:
    """How often each rank of one layer holds each expert: [ep, experts]."""
    return Placement(by_rank, 1).replicas(experts)


def _check(before: Placement, after: Placement) -> None:
    if before.ep != after.ep or before.physical_to_logical.shape != after.physical_to_logical.shape:
        raise ValueError("both placements must have the same layers, slots and ranks")
