"""Where physical experts live: SGLang's trivial order, or balanced from a recorded load (EPLB).

The greedy is the field's own in two steps, run on all layers at once: give each redundant slot to the
expert with the highest load per replica, then put replicas, heaviest first, on the least loaded rank
that has a free slot and not yet a replica of the same expert (deepseek-ai/EPLB lacks the last rule).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from manifests.errors import Refused
from manifests.findings import Finding

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Placement:
    """Logical expert of every physical slot.

    Attributes:
        physical_to_logical: [layers, slots]; rank r of ``ep`` owns slots r*slots/ep ... (r+1)*slots/ep - 1.
        ep: expert-parallel ranks.
    """

    physical_to_logical: Ints
    ep: int

    @property
    def layers(self) -> int:
        return int(self.physical_to_logical.shape[0])

    @property
    def slots(self) -> int:
        return int(self.physical_to_logical.shape[1])

    def replicas(self, experts: int) -> Ints:
        """Number of slots of each expert: [layers, experts]."""
        counts = np.zeros((self.layers, experts), dtype=np.int64)
        np.add.at(counts, (np.arange(self.layers)[:, None], self.physical_to_logical), 1)
        return counts

    def to_json(self) -> str:
        """SGLang's ``--init-expert-location`` form; further keys would be a TypeError there."""
        return json.dumps({"physical_to_logical_map": self.physical_to_logical.tolist()})


def trivial(layers: int, experts: int, redundant: int, ep: int) -> Placement:
    """What SGLang does by itself: slot i holds expert i modulo the number of experts.

    Raises:
        ValueError: the slots do not divide by ``ep``.
    """
    slots = _check(experts, redundant, ep)
    row = np.arange(slots, dtype=np.int64) % experts
    return Placement(np.tile(row, (layers, 1)), ep)


def place(load: Floats, ep: int, redundant: int) -> Placement:
    """A balanced placement for ``load`` [layers, experts] (any non-negative unit).

    Layers without load (dense ones: SGLang wants a row for every layer) get the trivial order.

    Raises:
        ValueError: the slots do not divide by ``ep``, or a load is negative or not finite.
    """
    load = np.asarray(load, dtype=np.float64)
    if load.ndim != 2 or not np.isfinite(load).all() or (load < 0).any():
        raise ValueError(f"load must be finite, non-negative and [layers, experts], not {load.shape}")
    layers, experts = load.shape
    slots = _check(experts, redundant, ep)
    result = trivial(layers, experts, redundant, ep).physical_to_logical.copy()
    busy = np.flatnonzero(load.sum(axis=1) > 0)
    if busy.size:
        result[busy] = _pack(load[busy], _replicate(load[busy], redundant, ep), ep, slots // ep)
    return Placement(result, ep)


def _check(experts: int, redundant: int, ep: int) -> int:
    slots = experts + redundant
    if ep < 1 or redundant < 0 or slots % ep:
        raise ValueError(f"{experts} experts + {redundant} redundant do not divide into {ep} ranks")
    return slots


def _replicate(load: Floats, redundant: int, ep: int) -> Ints:
    """Replicas per expert, [layers, experts]: one each, the rest to the highest load per replica.

    More replicas than ranks would share a rank, so an expert gets more only when all others have that many too.
    """
    counts = np.ones(load.shape, dtype=np.int64)
    rows = np.arange(load.shape[0])
    for _ in range(redundant):
        rounds = counts // ep
        open_ = rounds == rounds.min(axis=1, keepdims=True)
        counts[rows, np.argmax(np.where(open_, load / counts, -1.0), axis=1)] += 1
    return counts


def _pack(load: Floats, counts: Ints, ep: int, capacity: int) -> Ints:
    """Longest processing time first with ``capacity`` slots per rank; [layers, ep * capacity]."""
    layers, experts = load.shape
    rows = np.arange(layers)
    logical = np.stack([np.repeat(np.arange(experts), c) for c in counts])
    share = np.take_along_axis(load / counts, logical, axis=1)
    order = np.argsort(-share, axis=1, kind="stable")
    logical = np.take_along_axis(logical, order, axis=1)
    share = np.take_along_axis(share, order, axis=1)
    used = np.zeros((layers, ep), dtype=np.int64)
    rank_load = np.zeros((layers, ep))
    holds = np.zeros((layers, experts, ep), dtype=bool)
    result = np.empty((layers, ep, capacity), dtype=np.int64)
    penalty = 2 * load.sum(axis=1, keepdims=True) + 1  # more than any rank's load: a duplicate is the last resort
    for i in range(logical.shape[1]):
        expert = logical[:, i]
        cost = np.where(used < capacity, rank_load + penalty * holds[rows, expert], np.inf)
        rank = np.argmin(cost, axis=1)
        result[rows, rank, used[rows, rank]] = expert
        used[rows, rank] += 1
        rank_load[rows, rank] += share[:, i]
        holds[rows, expert, rank] = True
    return result.reshape(layers, ep * capacity)


def slot_load(load: Floats, placement: Placement) -> Floats:
    """Load of every physical slot, [layers, slots]: replicas share their expert's load evenly."""
    load = np.asarray(load, dtype=np.float64)
    shared = load / np.maximum(placement.replicas(load.shape[1]), 1)
    result: Floats = np.take_along_axis(shared, placement.physical_to_logical, axis=1)
    return result


def rank_load(load: Floats, placement: Placement) -> Floats:
    """Load of every expert-parallel rank: [layers, ep]."""
    per_slot = slot_load(load, placement)
    result: Floats = per_slot.reshape(placement.layers, placement.ep, -1).sum(axis=2)
    return result


def balancedness(load: Floats, placement: Placement) -> Floats:
    """Mean over maximum rank load, per layer [layers]; 1 is perfect, layers without load count as 1."""
    ranks = rank_load(load, placement)
    top = ranks.max(axis=1)
    result: Floats = np.divide(ranks.mean(axis=1), top, out=np.ones(len(top)), where=top > 0)
    return result


def read(path: Path, ep: int, experts: int) -> Placement:
    """Read a placement file in SGLang's form.

    Raises:
        Refused: not such a file, or it does not suit ``ep`` ranks and ``experts`` logical experts.
    """
    try:
        table = np.asarray(json.loads(path.read_text())["physical_to_logical_map"], dtype=np.int64)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _refused(path, f"is no placement file ({type(error).__name__})") from error
    if table.ndim != 2 or not table.size or table.min() < 0 or table.max() >= experts or table.shape[1] % ep:
        raise _refused(path, f"does not place {experts} experts on {ep} ranks (its map is {table.shape})")
    placement = Placement(table, ep)
    if (placement.replicas(experts) == 0).any():
        raise _refused(path, "leaves an expert without any slot")
    return placement


def _refused(path: Path, rule: str) -> Refused:
    suggestion = "Make one from a recording with tuning.placement.place"
    return Refused([Finding(field="expert_placement", value=str(path), rule=rule, suggestion=suggestion)])
