"""A first packing of slots into ranks: quickly in rounds, or one slot at a time as EPLB does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from wideloop.tuning.placement.order import heaviest_first
from wideloop.tuning.placement.placement import Floats, Ints
from wideloop.tuning.placement.replicas import base_copies

#: Excess over the mean rank load above which a rank is packed again.
_HOT = 1.01


@dataclass(frozen=True, eq=False)
class Items:
    """Slots to pack, heaviest first; slots of one expert are adjacent.

    Attributes:
        expert: expert of each slot, [layers, slots].
        share: load of each slot, same shape.
    """

    expert: Ints
    share: Floats

    def of(self, layers: Ints) -> Items:
        """A copy of some layers."""
        return Items(self.expert[layers], self.share[layers])


def items(load: Floats, counts: Ints, ep: int, capacity: int) -> Items:
    """The slots in which ranks differ: copies that every rank has, where it has room for all experts, are left out."""
    layers, experts = load.shape
    share = load / counts
    order = heaviest_first(share)
    left = counts - (base_copies(experts, ep, capacity) if capacity >= experts else 0)
    flat = (order + np.arange(layers)[:, None] * experts).ravel()
    chosen = np.repeat(flat, left.ravel().take(flat))
    return Items((chosen % experts).reshape(layers, -1), share.ravel().take(chosen).reshape(layers, -1))


def in_rounds(slots: Items, ep: int) -> Ints:
    """Experts by rank, [layers, ep, slots per rank]: each round gives every rank one slot, heavy to lightly loaded.

    Where the rank of the heaviest slot is still the hottest, that slot is packed with lighter slots, and the other
    ranks are packed in the same way with the rest.
    """
    result, load, hottest = _rounds(slots, ep)
    capacity = result.shape[2]
    if ep > 2 and capacity > 1:
        mean = slots.share.sum(axis=1) / ep
        layers = np.flatnonzero((hottest == 0) & (load > mean * _HOT))
        if layers.size:
            can, company, rest = _set_aside(slots.of(layers), ep, mean[layers])
            layers = layers[can]
            result[layers, 0, 1:] = company
            if layers.size:
                result[layers, 1:] = in_rounds(rest, ep - 1)
    return result


def _set_aside(slots: Items, ep: int, mean: Floats) -> tuple[Ints, Ints, Items]:
    """Company for the heaviest slot that brings its rank near ``mean`` [layers], out of slots that follow each other.

    Returns:
        Layers where that is possible without an expert twice on a rank (neither here, nor because an expert has
        more slots left than there are ranks left); the company, [layers, slots per rank - 1]; what is left.
    """
    layers, count = slots.expert.shape
    size = count // ep - 1
    upto = np.concatenate([np.zeros((layers, 1)), np.cumsum(slots.share, axis=1)], axis=1)
    company = upto[:, 1 + size :] - upto[:, 1:-size]
    start = 1 + np.abs(company + (slots.share[:, 0] - mean)[:, None]).argmin(axis=1)
    index = np.arange(count)
    with_it = (index >= start[:, None]) & (index < (start + size)[:, None])
    left = ~with_it
    left[:, 0] = False
    chosen = slots.expert[with_it].reshape(layers, size)
    rest = Items(slots.expert[left].reshape(layers, -1), slots.share[left].reshape(layers, -1))
    can = ~(chosen[:, 1:] == chosen[:, :-1]).any(axis=1) & ~(chosen == slots.expert[:, :1]).any(axis=1)
    # Slots of an expert follow each other, so with ep of them both ends of some row of ep are the same.
    can &= ~(rest.expert[:, ep - 1 :] == rest.expert[:, : 1 - ep]).any(axis=1)
    some = np.flatnonzero(can)
    return some, chosen[some], rest.of(some)


def _rounds(slots: Items, ep: int) -> tuple[Ints, Floats, Ints]:
    """As :func:`in_rounds` with nothing set aside; also load and number of each layer's hottest rank.

    Rank 0 has the heaviest slot.

    Slots of one expert fall into one round or two consecutive rounds; in the second they go to ranks without that
    expert.
    """
    layers = len(slots.expert)
    expert = slots.expert.reshape(layers, -1, ep)
    share = slots.share.reshape(layers, -1, ep)
    rounds = expert.shape[1]
    more_than_any = share.sum(axis=(1, 2))[:, None] + 1.0
    offset = np.arange(layers)[:, None] * ep
    rank = np.broadcast_to(np.arange(ep), (layers, ep))
    load = np.zeros((layers, ep))
    to = np.empty((layers, rounds, ep), dtype=np.int64)
    for i in range(rounds):
        if i:
            continued = expert[:, i - 1] == expert[:, i, :1]
            key = load + more_than_any * continued if continued.any() else load
            order = np.argsort(key, axis=1) + offset
            load, rank = load.ravel().take(order), rank.ravel().take(order)
        load = load + share[:, i]
        to[:, i] = rank
    # One scatter for all rounds: each would cost more to prepare than to do.
    to += offset[:, :, None]
    to *= rounds
    to += np.arange(rounds)[:, None]
    result = np.empty((layers, ep, rounds), dtype=np.int64)
    result.reshape(-1)[to.reshape(-1)] = expert.reshape(-1)
    hottest = load.argmax(axis=1)
    at = np.arange(layers)
    return result, load[at, hottest], rank[at, hottest]


def one_by_one(slots: Items, ep: int, experts: int) -> Ints:
    """Experts by rank, [layers, ep, slots per rank]: longest processing time first with room for so many slots.

    As deepseek-ai/EPLB's ``balanced_packing``, for all layers at once; ranks that already hold the expert come
    last, which EPLB does not do.
    """
    layers, count = slots.expert.shape
    capacity = count // ep
    rows = np.arange(layers)
    used = np.zeros((layers, ep), dtype=np.int64)
    load = np.zeros((layers, ep))
    holds = np.zeros((layers, experts, ep), dtype=bool)
    result = np.empty((layers, ep, capacity), dtype=np.int64)
    more_than_any = 2 * slots.share.sum(axis=1, keepdims=True) + 1
    for i in range(count):
        expert = slots.expert[:, i]
        cost = np.where(used < capacity, load + more_than_any * holds[rows, expert], np.inf)
        rank = np.argmin(cost, axis=1)
        result[rows, rank, used[rows, rank]] = expert
        used[rows, rank] += 1
        load[rows, rank] += slots.share[:, i]
        holds[rows, expert, rank] = True
    return result
