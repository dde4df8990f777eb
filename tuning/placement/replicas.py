"""Number of slots of each expert: the apportionment with the lightest possible heaviest slot."""

from __future__ import annotations

import numpy as np
from wideloop.tuning.placement.order import heaviest
from wideloop.tuning.placement.placement import Floats, Ints

#: Replicas beyond the first for which quotients are computed at first; more only where an expert needs them.
_FIRST_LOOK = 6


def base_copies(experts: int, ep: int, capacity: int) -> int:
    """Slots that every expert gets at least: one, or some on every rank where a rank has room for all experts."""
    return max(1, capacity // experts * ep)


def replicas(load: Floats, ep: int, capacity: int, at_most: int | None = None) -> Ints:
    """Slots of each expert, [layers, experts], for ``load`` of that shape and ``capacity`` slots on each rank.

    Slot by slot to the expert with the most load per slot, which is optimal for the heaviest slot (D'Hondt's
    method; deepseek-ai/EPLB's ``replicate_experts`` does the same one slot at a time). As all the quotients can
    be written down beforehand, the slots are given in one selection instead. No expert gets more slots than
    there are ranks unless every rank has room for all experts, nor more than ``at_most`` where so few fill the slots.
    """
    layers, experts = load.shape
    base = base_copies(experts, ep, capacity)
    counts = np.full((layers, experts), base, dtype=np.int64)
    extra = ep * capacity - base * experts
    if extra:
        most = ep - 1 if capacity < experts else ep
        if at_most is not None:
            most = min(most, max(at_most - base, -(-extra // experts)))
        # An expert gets a second slot only after all heavier ones, so only the heaviest are candidates.
        top = min(extra, experts)
        heavy = heaviest(load, top)
        added = _added(np.take_along_axis(load, heavy, axis=1), base, extra, min(extra, most))
        np.put_along_axis(counts, heavy, base + added, axis=1)
    return counts


def _added(load: Floats, base: int, extra: int, most: int) -> Ints:
    """The ``extra`` slots by expert, [layers, experts], at most ``most`` each."""
    layers, experts = load.shape
    look = min(most, _FIRST_LOOK)
    while True:
        quotients = load[:, None, :] / np.arange(base, base + look)[:, None]
        flat = quotients.reshape(layers, -1)
        if flat.shape[1] >= extra:
            won = heaviest(flat, extra) % experts
            won += np.arange(layers)[:, None] * experts
            added = np.bincount(won.ravel(), minlength=layers * experts).reshape(layers, experts)
            if look == most or added.max() < look:
                return added
        look = min(most, look * 2)
