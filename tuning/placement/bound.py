"""Lower bounds of the hottest rank's load, which limit the distance of a result from the best placement."""

from __future__ import annotations

import numpy as np
from wideloop.tuning.placement.placement import Floats
from wideloop.tuning.placement.replicas import replicas


def lower_bound(load: Floats, ep: int, capacity: int) -> Floats:
    """Least possible load of the hottest rank, [layers], for ``load`` [layers, experts], its unit kept.

    The largest of these bounds, which hold for every placement without an expert twice on a rank (placements with
    more slots per rank than experts cannot avoid that; for them only the first bound is used):

    * the mean rank load;
    * the heaviest slot under the best apportionment of replicas, with the lightest slots that its rank's other
      places could possibly hold;
    * without redundancy, for every k: of the k*ep + 1 heaviest experts some rank holds k + 1.
    """
    mean: Floats = load.sum(axis=1) / ep
    experts = load.shape[1]
    if capacity > experts:
        return mean
    heaviest = (load / replicas(load, ep, capacity)).max(axis=1)
    most = min(ep, ep * capacity - experts + 1)
    light = np.sort(load / most, axis=1)[:, : capacity - 1].sum(axis=1)
    bound: Floats = np.maximum(mean, heaviest + light)
    return np.maximum(bound, unreplicated(load, ep)) if ep * capacity == experts else bound


def unreplicated(load: Floats, packs: int) -> Floats:
    """The pigeonhole bound, [layers], for ``load`` [layers, things] in ``packs`` packs of equally many things."""
    layers, things = load.shape
    capacity = things // packs
    heavy_first = -np.sort(-load, axis=1)
    zero = np.zeros((layers, 1))
    heavy = np.concatenate([zero, np.cumsum(heavy_first, axis=1)], axis=1)
    light = np.concatenate([zero, np.cumsum(heavy_first[:, ::-1], axis=1)], axis=1)
    k = np.arange(capacity)
    last = k * packs + 1
    result: Floats = (heavy[:, last] - heavy[:, last - k - 1] + light[:, capacity - k - 1]).max(axis=1)
    return result


def bounds(load: Floats, ep: int, capacity: int, nodes: int = 1, groups: int = 1) -> Floats:
    """:func:`lower_bound` of every window of ``load`` [windows, layers, experts]: [windows, layers, 1].

    With ``nodes`` > 1, when each of the expert ``groups`` stays within one of them.
    """
    bounds_by_layer = []
    for window in load:
        bound = lower_bound(window, ep, capacity)
        if nodes > 1:
            by_group = window.reshape(len(window), groups, -1).sum(axis=2)
            bound = np.maximum(bound, unreplicated(by_group, nodes) * nodes / ep)
        bounds_by_layer.append(bound)
    return np.stack(bounds_by_layer)[:, :, None]
