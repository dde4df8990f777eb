"""The type of a placement, and the load that a placement puts on every rank."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from wideloop.tuning.placement.dispatch import nearest_shares

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Placement:
    """Logical expert of every physical slot.

    Attributes:
        physical_to_logical: [layers, slots]; rank r of ``ep`` owns slots r*slots/ep ... (r+1)*slots/ep - 1.
        ep: expert-parallel ranks.
        nodes: between which senders prefer their own replicas (see :mod:`~wideloop.tuning.placement.dispatch`); 1 where
            replicas share their expert's tokens evenly.
    """

    physical_to_logical: Ints
    ep: int
    nodes: int = 1

    @property
    def layers(self) -> int:
        return int(self.physical_to_logical.shape[0])

    @property
    def slots(self) -> int:
        return int(self.physical_to_logical.shape[1])

    @property
    def by_rank(self) -> Ints:
        """The experts of every rank, in slot order: [layers, ep, slots per rank]."""
        return self.physical_to_logical.reshape(self.layers, self.ep, -1)

    def replicas(self, experts: int) -> Ints:
        """Number of slots of each expert: [layers, experts]."""
        flat = self.physical_to_logical + np.arange(self.layers)[:, None] * experts
        return np.bincount(flat.ravel(), minlength=self.layers * experts).reshape(self.layers, experts)

    def wasted(self) -> Ints:
        """Slots of each layer that hold an expert which their rank already has: [layers]."""
        experts = np.sort(self.by_rank, axis=2)
        result: Ints = (experts[:, :, 1:] == experts[:, :, :-1]).sum(axis=(1, 2))
        return result


def trivial(layers: int, experts: int, redundant: int, ep: int) -> Placement:
    """SGLang's default order: slot i holds expert i modulo the number of experts.

    Raises:
        ValueError: the slots do not divide by ``ep``.
    """
    slots = slots_of(experts, redundant, ep)
    row = np.arange(slots, dtype=np.int64) % experts
    return Placement(np.tile(row, (layers, 1)), ep)


def slots_of(experts: int, redundant: int, ep: int) -> int:
    """Physical slots of a layer.

    Raises:
        ValueError: they do not divide by ``ep``.
    """
    slots = experts + redundant
    if ep < 1 or redundant < 0 or slots % ep:
        raise ValueError(f"{experts} experts + {redundant} redundant do not divide into {ep} ranks")
    return slots


def slot_load(load: Floats, placement: Placement) -> Floats:
    """Load of every physical slot, [layers, slots]: its share of its expert's, as the placement's senders choose."""
    load = np.asarray(load, dtype=np.float64)
    table = placement.physical_to_logical
    if placement.nodes > 1 and table.shape[1] > load.shape[1]:
        return np.take_along_axis(load, table, axis=1) * nearest_shares(placement, load.shape[1])
    shared = load / np.maximum(placement.replicas(load.shape[1]), 1)
    result: Floats = np.take_along_axis(shared, table, axis=1)
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
