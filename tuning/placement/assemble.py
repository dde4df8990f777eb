"""Pack the slots of all layers into ranks: a quick first packing, improved according to the effort."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from wideloop.tuning.placement.bound import bounds
from wideloop.tuning.placement.exchange import exchange
from wideloop.tuning.placement.packing import Items, in_rounds, items, one_by_one
from wideloop.tuning.placement.pairs import swap_rounds
from wideloop.tuning.placement.placement import Floats, Ints, Placement
from wideloop.tuning.placement.replicas import replicas
from wideloop.tuning.placement.search import Objective, judged, swap_all

Effort = Literal["quick", "thorough", "exhaustive"]
#: Rounds of pairwise swaps: two rounds mostly balance better than EPLB's greedy; a round takes 0.2 ms.
_ROUNDS = {"quick": 2, "thorough": 8, "exhaustive": 8}
#: Relative distance to the bound at which a layer is finished.
NEAR = 1e-6
#: Relative distance to the bound below which a search is not repeated from another start.
_ENOUGH = 1e-3


@dataclass(frozen=True, eq=False)
class Packing:
    """Part of a placement: the slots of the ranks besides ``copies`` of every expert.

    Attributes:
        experts: [layers, ep, slots per rank].
        counts: number of slots of each expert, [layers, experts].
    """

    experts: Ints
    counts: Ints
    copies: int

    def of(self, layers: Ints) -> Packing:
        """A copy of some layers."""
        return Packing(self.experts[layers], self.counts[layers], self.copies)

    def share(self, load: Floats) -> Floats:
        """Load of every slot, [windows, layers, ep, slots per rank], for ``load`` [windows, layers, experts]."""
        rows = np.arange(len(self.experts))[:, None, None]
        result: Floats = (load / self.counts)[:, rows, self.experts]
        return result

    def fixed(self, load: Floats) -> Floats:
        """Load of the copies on every rank: [windows, layers]."""
        result: Floats = (load / self.counts).sum(axis=2) * self.copies
        return result

    def judged(self, load: Floats, objective: Objective) -> Floats:
        return judged(self.share(load).sum(axis=3) + self.fixed(load)[:, :, None], objective)

    def full(self) -> Ints:
        """The experts with the copies, [layers, ep, all slots of a rank]."""
        layers, ep, _ = self.experts.shape
        every = np.tile(np.arange(self.counts.shape[1]), self.copies)
        return np.concatenate([np.broadcast_to(every, (layers, ep, every.size)), self.experts], axis=2)


def copies_of(experts: int, capacity: int) -> int:
    """Copies of every expert that every placement has on each rank (0 unless a rank has a slot for each expert)."""
    return capacity // experts


def assembled(
    load: Floats, ep: int, capacity: int, objective: Objective, effort: Effort, at_most: int | None = None
) -> Ints:
    """Experts by rank, [layers, ep, capacity], for ``load`` [windows, layers, experts]; ``at_most`` replicas of one."""
    mean = load.mean(axis=0)
    counts = replicas(mean, ep, capacity, at_most)
    slots = items(mean, counts, ep, capacity)
    copies = copies_of(mean.shape[1], capacity)
    packing = Packing(in_rounds(slots, ep), counts, copies)
    if packing.experts.size:
        swap_rounds(packing.experts, packing.share(mean[None])[0], _ROUNDS[effort])
        if effort != "quick":
            _search(packing, slots, load, capacity, objective)
        if effort == "exhaustive" and not copies and ep * capacity > mean.shape[1]:
            goal = judged(bounds(load, ep, capacity), objective) * (1 + NEAR)
            exchange(packing.experts, load, objective, _steps(ep), goal)
    return packing.full()


def _search(packing: Packing, slots: Items, load: Floats, capacity: int, objective: Objective) -> None:
    """Improve ``packing`` in place where it is not at the bound, from the better of two starts.

    Where the result could still be better, the search is repeated from the other start.
    """
    ep = packing.experts.shape[1]
    bound = judged(bounds(load, ep, capacity), objective)
    begun = packing.judged(load, objective)
    far = np.flatnonzero(begun > bound * (1 + NEAR))
    if not far.size:
        return
    load, bound = load[:, far], bound[far]
    first = packing.of(far)
    other = replace(first, experts=one_by_one(slots.of(far), ep, load.shape[2]))
    allowed = Placement(other.experts.reshape(far.size, -1), ep).wasted() == 0
    swap = allowed & (other.judged(load, objective) < begun[far])
    first.experts[swap], other.experts[swap] = other.experts[swap], first.experts[swap]
    result = _searched(first, load, bound, objective)
    again = np.flatnonzero((result > bound * (1 + _ENOUGH)) & allowed)
    if again.size:
        second = other.of(again)
        better = _searched(second, load[:, again], bound[again], objective) < result[again]
        first.experts[again[better]] = second.experts[better]
    packing.experts[far] = first.experts


def _searched(packing: Packing, load: Floats, bound: Floats, objective: Objective) -> Floats:
    """Search in place; returns the result's objective, [layers]."""
    steps = _steps(packing.experts.shape[1])
    swap_all(packing.experts, packing.share(load), packing.fixed(load), objective, steps, bound * (1 + NEAR))
    return packing.judged(load, objective)


def _steps(ep: int) -> int:
    """Limit of swaps per layer; a search nearly always ends before."""
    return 16 * ep + 64
