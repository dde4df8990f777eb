"""Thorough improvement of a packing: the hottest rank's best swap with any other rank, until there is none."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from wideloop.tuning.placement.placement import Floats, Ints

#: How the objectives of several windows of time are combined.
Objective = Literal["mean", "worst"]
#: Weight of the spread over all ranks: it orders swaps that do not change the hottest rank's load.
_SPREAD = 1e-3
#: A swap has to gain this much of the mean rank load.
_GAIN = 1e-7
#: Candidate swaps evaluated at once; limits the memory to about 100 MB.
_AT_ONCE = 2_000_000


def judged(load: Floats, objective: Objective) -> Floats:
    """The objective, [layers]: the hottest rank's load, over the windows of ``load`` [windows, layers, ep]."""
    hottest = load.max(axis=2)
    result: Floats = hottest.mean(axis=0) if objective == "mean" else hottest.max(axis=0)
    return result


def swap_all(experts: Ints, share: Floats, fixed: Floats, objective: Objective, steps: int, goal: Floats) -> None:
    """Improve ``experts`` [layers, ep, slots per rank] and ``share`` [windows, layers, ep, slots] in place.

    Shares are in units of the mean rank load; ``fixed`` [windows, layers] is the further load of every rank.
    No layer gets worse by :func:`judged`. A layer is finished when it has reached its ``goal`` [layers], when no swap
    of a hottest rank (of any window) helps, or after ``steps`` swaps and failed tries.
    """
    windows, layers, ep, capacity = share.shape
    if ep < 2:
        return
    chunk = max(1, _AT_ONCE // (windows * capacity * capacity * ep))
    for start in range(0, layers, chunk):
        rows = np.arange(start, min(layers, start + chunk))
        tried = np.zeros(len(rows), dtype=np.int64)
        for _ in range(steps):
            now = judged(share[:, rows].sum(axis=3) + fixed[:, rows, None], objective)
            going = (tried < windows) & (now > goal[rows])
            rows, tried = rows[going], tried[going]
            if not rows.size:
                break
            swapped = _step(experts, share, fixed, objective, rows, tried)
            tried = np.where(swapped, 0, tried + 1)


def _step(
    experts: Ints, share: Floats, fixed: Floats, objective: Objective, rows: Ints, tried: Ints
) -> npt.NDArray[np.bool_]:
    """One swap in each of ``rows`` where one helps; ``tried`` is the window whose hottest rank it relieves."""
    mine, x = share[:, rows], experts[rows]
    _, count, ep, capacity = mine.shape
    load = mine.sum(axis=3) + fixed[:, rows, None]
    at = np.arange(count)
    window = np.argsort(-load.max(axis=2), axis=0, kind="stable")[tried, at]
    hot = load[window, at].argmax(axis=1)
    hot_load = load[:, at, hot]
    # [windows, rows, slot of the hot rank, other rank, its slot]
    moved = mine[:, at, hot][:, :, :, None, None] - mine[:, :, None]
    pair = np.maximum(hot_load[:, :, None, None, None] - moved, load[:, :, None, :, None] + moved)
    top = np.maximum(pair, _others(load, hot)[:, :, None, :, None])
    wide = 2 * moved * (moved - (hot_load[:, :, None] - load)[:, :, None, :, None])
    after = top.mean(axis=0) if objective == "mean" else top.max(axis=0)
    same = x[at, hot][:, :, None, None] == x[:, None]
    bad = same.any(axis=3, keepdims=True) | same.any(axis=1, keepdims=True)
    bad[at, :, hot] = True
    now = judged(load, objective)
    bad |= after > now[:, None, None, None]
    score = np.where(bad, np.inf, after + _SPREAD / ep * wide.mean(axis=0)).reshape(count, -1)
    best = score.argmin(axis=1)
    good: npt.NDArray[np.bool_] = score[at, best] < now - _GAIN
    slot, rank, other = np.unravel_index(best[good], (capacity, ep, capacity))
    a = (rows[good], hot[good], slot)
    b = (rows[good], rank, other)
    experts[a], experts[b] = experts[b], experts[a]
    share[(slice(None), *a)], share[(slice(None), *b)] = share[(slice(None), *b)], share[(slice(None), *a)]
    return good


def _others(load: Floats, hot: Ints) -> Floats:
    """The hottest of all ranks but the hot one and one other, for every choice of the other: [windows, rows, ep]."""
    rest = load.copy()
    rest[:, np.arange(len(hot)), hot] = -np.inf
    ep = load.shape[2]
    first = rest.argmax(axis=2)
    top = np.take_along_axis(rest, first[:, :, None], axis=2)
    np.put_along_axis(rest, first[:, :, None], -np.inf, axis=2)
    second = rest.max(axis=2)[:, :, None]
    result: Floats = np.where(np.arange(ep) == first[:, :, None], second, top)
    return result
