"""Better replica counts: give a slot of an expert with several to another expert, then swap slots."""

from __future__ import annotations

import numpy as np
from wideloop.tuning.placement.placement import Floats, Ints, Placement
from wideloop.tuning.placement.search import Objective, judged, swap_all

#: Exchanges that are tried with swaps in each round: those that are best before any swap.
_TRIED = 12
#: Largest number of rounds; a round without improvement ends the search, so few are used.
_ROUNDS = 40
#: Candidates' rank loads evaluated at once; limits the memory to about 100 MB.
_AT_ONCE = 4_000_000
#: Up to this number of candidates' rank loads per layer, any expert may get a slot, and more exchanges are tried.
_SMALL, _TRIED_SMALL = 5_000, 100
#: An improvement of the hottest rank that counts, in mean rank loads.
_GAIN = 1e-6


def exchange(experts: Ints, load: Floats, objective: Objective, steps: int, goal: Floats) -> None:
    """Improve ``experts`` [layers, ep, slots per rank] in place for ``load`` [windows, layers, experts].

    Loads are in units of the mean rank load. In each round the most promising exchanges of each layer are tried,
    each followed by ``steps`` swaps at most, and the best is kept if it is better; a layer is finished when none
    is, or when it has reached its ``goal`` [layers].
    """
    rows = np.arange(len(experts))
    now = _judged(experts, load, objective)
    for _ in range(_ROUNDS):
        rows = rows[now[rows] > goal[rows]]
        if not rows.size:
            return
        size = experts.shape[1] * experts.shape[2] ** 2 * experts.shape[1] * len(load)
        parts = np.array_split(rows, max(1, min(len(rows), len(rows) * size // _AT_ONCE)))
        better = [part[_round(experts, load, now, objective, steps, goal, part)] for part in parts]
        rows = np.concatenate(better)


def _round(
    experts: Ints, load: Floats, now: Floats, objective: Objective, steps: int, goal: Floats, rows: Ints
) -> Ints:
    """One round for ``rows``, updating ``experts`` and ``now``; returns which of them got better."""
    tried = _candidates(experts[rows], load[:, rows], objective)
    owner = np.repeat(rows, tried.shape[1])
    flat = tried.reshape(-1, *experts.shape[1:])
    there = load[:, owner]
    share, none = _share(flat, there), np.zeros((len(load), len(owner)))
    swap_all(flat, share, none, objective, steps, goal[owner])
    loads = _judged(flat, there, objective).reshape(len(rows), -1)
    best = loads.argmin(axis=1)
    at = np.arange(len(rows))
    better = np.flatnonzero(loads[at, best] < now[rows] - _GAIN)
    experts[rows[better]] = flat.reshape(tried.shape)[better, best[better]]
    now[rows[better]] = loads[better, best[better]]
    return better


def _candidates(experts: Ints, load: Floats, objective: Objective) -> Ints:
    """Experts after the most promising exchanges, [layers, tried, ep, slots per rank]; repeated where there are few.

    One expert of the hottest rank (in small problems: any) gets a further slot, on a rank that has none of it, in
    place of an expert with several. All ranks' loads after it follow from the slots' shares.
    """
    layers, ep, capacity = experts.shape
    at = np.arange(layers)
    counts = _counts(experts, load.shape[2])
    holds = np.zeros((layers, ep, load.shape[2]), dtype=bool)
    np.put_along_axis(holds, experts, True, axis=2)
    ranks = _share(experts, load).sum(axis=3)
    window = ranks.max(axis=2).argmax(axis=0)
    hot = ranks[window, at].argmax(axis=1)
    number = load.shape[2]
    few = number * ep * ep * capacity <= _SMALL
    # [layers, experts that may get a slot]
    gets = np.broadcast_to(np.arange(number), (layers, number)) if few else experts[at, hot]
    gives = experts.reshape(layers, -1)  # [layers, slots]
    rank = np.arange(ep * capacity) // capacity
    n, m = (np.take_along_axis(counts, who, axis=1) for who in (gets, gives))
    of_gets, of_gives = (np.take_along_axis(load, who[None], axis=2) for who in (gets, gives))
    relief = of_gets / (n * (n + 1))
    burden = of_gives / (m * np.maximum(m - 1, 1))
    gets_held = np.take_along_axis(holds, gets[:, None], axis=2)  # [layers, ep, gets]
    gives_held = np.take_along_axis(holds, gives[:, None], axis=2)  # [layers, ep, slots]
    # after: [windows, layers, expert that gets, slot that gives, rank]
    after = ranks[:, :, None, None] - (relief[:, :, None] * gets_held).transpose(0, 1, 3, 2)[:, :, :, None]
    after = after + (burden[:, :, None] * gives_held).transpose(0, 1, 3, 2)[:, :, None]
    own = (of_gets / (n + 1))[..., None] - (of_gives / m + burden)[:, :, None]
    after[..., np.arange(ep * capacity), rank] += own
    score = judged(after.reshape(len(load), -1, ep), objective) + (after**2).mean(axis=(0, 4)).reshape(-1)
    impossible = (m < 2)[:, None] | gets_held.transpose(0, 2, 1)[:, :, rank]
    score = np.where(impossible, np.inf, score.reshape(impossible.shape)).reshape(layers, -1)
    count = min(_TRIED_SMALL if few else _TRIED, score.shape[1])
    chosen = np.argsort(score, axis=1, kind="stable")[:, :count]
    result = np.repeat(experts[:, None], count, axis=1)
    expert, slot = np.divmod(chosen, ep * capacity)
    flat = result.reshape(layers, count, -1)
    possible = np.isfinite(np.take_along_axis(score, chosen, axis=1))
    new = np.where(possible, gets[at[:, None], expert], np.take_along_axis(gives, slot, axis=1))
    np.put_along_axis(flat, slot[..., None], new[..., None], axis=2)
    return flat.reshape(result.shape)


def _counts(experts: Ints, number: int) -> Ints:
    return Placement(experts.reshape(len(experts), -1), experts.shape[1]).replicas(number)


def _share(experts: Ints, load: Floats) -> Floats:
    """Load of every slot, [windows, layers, ep, slots per rank]."""
    rows = np.arange(len(experts))[:, None, None]
    result: Floats = (load / _counts(experts, load.shape[2]))[:, rows, experts]
    return result


def _judged(experts: Ints, load: Floats, objective: Objective) -> Floats:
    return judged(_share(experts, load).sum(axis=3), objective)
