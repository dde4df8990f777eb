"""Quick improvement of a packing: the hot ranks swap one slot each with the cool ones, in all layers at once."""

from __future__ import annotations

import numpy as np
from wideloop.tuning.placement.placement import Floats, Ints

#: Share by which a swap has to bring two ranks closer; smaller swaps could repeat through rounding.
_CLOSER = 1 - 1e-6


def swap_rounds(experts: Ints, share: Floats, rounds: int) -> None:
    """Improve ``experts`` and ``share`` [layers, ep, slots per rank] in place; no layer's hottest rank gets hotter.

    In each round the hottest quarter of the ranks is paired with the coolest one, shifted by one from round to
    round, and each pair makes the one swap that brings it closest to equal.
    """
    load = share.sum(axis=2)
    for shift in range(rounds):
        _round(experts, share, load, shift)


def _round(experts: Ints, share: Floats, load: Floats, shift: int) -> None:
    layers, ep, capacity = experts.shape
    count = min(ep // 2, max(2, ep // 4))
    order = np.argsort(load, axis=1) + np.arange(layers)[:, None] * ep
    cool = order[:, :count].ravel()
    hot = np.roll(order[:, ep - count :][:, ::-1], shift, axis=1).ravel()
    flat_experts, flat_share, flat_load = experts.reshape(-1), share.reshape(-1), load.reshape(-1)
    target = (flat_load[hot] - flat_load[cool]) / 2
    out, back, error = _closest(share.reshape(-1, capacity), hot, cool, target)
    keep = np.flatnonzero(error < target * _CLOSER)
    hot, cool, out, back = hot[keep], cool[keep], out[keep], back[keep]
    by_rank = experts.reshape(-1, capacity)
    twice = (by_rank[hot] == by_rank[cool, back][:, None]).any(axis=1)
    twice |= (by_rank[cool] == by_rank[hot, out][:, None]).any(axis=1)
    keep = np.flatnonzero(~twice)
    hot, cool = hot[keep], cool[keep]
    given, taken = hot * capacity + out[keep], cool * capacity + back[keep]
    moved = flat_share[given] - flat_share[taken]
    flat_load[hot] -= moved
    flat_load[cool] += moved
    for values in (flat_experts, flat_share):
        values[given], values[taken] = values[taken], values[given]


def _closest(share: Floats, hot: Ints, cool: Ints, target: Floats) -> tuple[Ints, Ints, Floats]:
    """For each pair the slot of the hot and of the cool rank whose shares differ by ``target`` most nearly.

    The two nearest members of two sets are neighbours when both are sorted together, so that no more than a
    sort of both ranks' slots is needed instead of all their combinations.
    """
    capacity = share.shape[1]
    pairs = np.arange(len(hot))[:, None]
    both = np.concatenate([share[hot] - target[:, None], share[cool]], axis=1)
    order = np.argsort(both, axis=1)
    sorted_ = both.ravel().take(order + pairs * (2 * capacity))
    apart = sorted_[:, 1:] - sorted_[:, :-1]
    of_hot = order < capacity
    apart[of_hot[:, 1:] == of_hot[:, :-1]] = np.inf
    best = apart.argmin(axis=1)
    pair = pairs[:, 0]
    one, other = order[pair, best], order[pair, best + 1]
    return np.minimum(one, other), np.maximum(one, other) - capacity, apart[pair, best]
