"""Figures of the experts' load in a recording: balance, concentration, persistence, drift and group sizes.

Loads are tokens by expert, in any unit unless said otherwise. Layers without any load are dense ones, which
SGLang's recorder has rows for too: they are left out of every average here, except where SGLang's own figure is
to be reproduced.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from wideloop.tuning.placement import Placement, slot_load

Floats = npt.NDArray[np.floating[Any]]
Bools = npt.NDArray[np.bool_]

#: The term that SGLang adds to the mean and to the maximum (``srt/eplb/expert_distribution.py``, 0.5.23).
_SGLANG_EPSILON = 1e-5


@dataclass(frozen=True)
class Drift:
    """How the load of one recording differs from another's, for the layers that have load in both.

    Attributes:
        moved: [layers]; share of the tokens that go to other experts (total variation distance): 0 the same, 1
            disjoint.
        correlation: [layers]; Pearson's, over experts. Near 1 when the same traffic was recorded twice with the
            placement in effect; near 0 when the engine ignored the placement. nan where all experts are equal.
        still_hot: [layers]; share of the first recording's hot experts that are hot in the second.
    """

    moved: Floats
    correlation: Floats
    still_hot: Floats


def has_experts(load: Floats) -> Bools:
    """Which layers have load: [layers], of ``load`` [..., layers, experts]."""
    load = np.asarray(load)
    return np.asarray(load.any(axis=(*range(load.ndim - 2), load.ndim - 1)))


def rank_loads(load: Floats, placement: Placement) -> Floats:
    """Load of every rank, [..., layers, ep], for ``load`` [..., layers, experts]."""
    load = np.asarray(load, dtype=np.float64)
    flat = load.reshape(-1, *load.shape[-2:])
    slots = np.stack([slot_load(one, placement) for one in flat])
    ranks: Floats = slots.reshape(*slots.shape[:-1], placement.ep, -1).sum(axis=-1)
    return ranks.reshape(*load.shape[:-1], placement.ep)


def sglang_balancedness(load: Floats, placement: Placement) -> float:
    """Balancedness as SGLang logs it for a pass: mean over maximum rank load, averaged over all layers, dense ones too.

    Dense layers count as 1, so that a model's figure is above that of its layers with experts.
    """
    ranks = rank_loads(load, placement)
    ratio = (ranks.mean(axis=-1) + _SGLANG_EPSILON) / (ranks.max(axis=-1) + _SGLANG_EPSILON)
    return float(ratio.mean())


def balance(load: Floats, placement: Placement) -> float:
    """Mean over maximum rank load, averaged over the layers with experts and over any leading axis (1 is perfect).

    Passes in which a layer had no token are left out of its average.

    Raises:
        ValueError: there is no load at all.
    """
    ranks = rank_loads(load, placement)
    top = ranks.max(axis=-1)
    if not top.any():
        raise ValueError("a recording without any token has no balance")
    return float((ranks.mean(axis=-1)[top > 0] / top[top > 0]).mean())


def imbalance(load: Floats, placement: Placement) -> Floats:
    """Maximum over mean rank load of each layer, [layers with experts]: the factor by which the layer is slower."""
    ranks = rank_loads(np.asarray(load)[has_experts(load)], _of(placement, has_experts(load)))
    result: Floats = ranks.max(axis=1) / ranks.mean(axis=1)
    return result


def _of(placement: Placement, layers: Bools) -> Placement:
    return Placement(placement.physical_to_logical[layers], placement.ep, placement.nodes)


def gini(load: Floats) -> Floats:
    """Concentration of the load on few experts, [layers with experts]: 0 all equal, near 1 all on one."""
    load = np.sort(np.asarray(load, dtype=np.float64)[has_experts(load)], axis=1)
    experts = load.shape[1]
    weight = 2 * np.arange(1, experts + 1) - experts - 1
    result: Floats = (load * weight).sum(axis=1) / (experts * load.sum(axis=1))
    return result


def windows(steps: Floats, count: int) -> Floats:
    """``steps`` [passes, layers, experts] summed into ``count`` windows of as many passes: [count, layers, experts].

    Passes without load are left out: SGLang dumps its whole buffer, used or not. Once the buffer has wrapped, its
    order is not that of time, and the file does not show that.

    Raises:
        ValueError: fewer passes have load than windows are asked for.
    """
    used = np.asarray(steps)[np.asarray(steps).any(axis=(1, 2))]
    if not 1 <= count <= len(used):
        raise ValueError(f"{len(used)} passes with load do not make {count} windows")
    result: Floats = np.stack([part.sum(axis=0, dtype=np.float64) for part in np.array_split(used, count)])
    return result


def passes(steps: Floats, at_least: float, below: float = np.inf) -> Floats:
    """The passes of ``steps`` [passes, layers, experts] whose busiest layer has ``at_least`` to ``below`` counts.

    Separates prefill passes from decode passes of an aggregated worker: a pass's counts are its tokens times
    the experts per token (times the expert-parallel ranks without an all-to-all back end).
    """
    counts = np.asarray(steps).sum(axis=2).max(axis=1)
    result: Floats = np.asarray(steps)[(counts >= at_least) & (counts < below) & (counts > 0)]
    return result


def hot(load: Floats, count: int) -> Bools:
    """The ``count`` experts of each layer with the most load, of equal ones the lower: [..., layers, experts]."""
    load = np.asarray(load)
    order = np.argsort(-load, axis=-1, kind="stable")[..., :count]
    result = np.zeros(load.shape, dtype=bool)
    np.put_along_axis(result, order, True, axis=-1)
    return result


def persistence(by_window: Floats, count: int) -> Floats:
    """How much of the hot set stays hot: [windows, windows], for ``by_window`` [windows, layers, experts].

    The share of the ``count`` hottest experts of one window that are among those of another, averaged over the
    layers with experts. By chance alone it would be ``count`` / experts. High: a placement made once holds.
    """
    chosen = hot(np.asarray(by_window)[:, has_experts(by_window)], count)
    flat = chosen.reshape(len(chosen), -1).astype(np.float64)
    result: Floats = flat @ flat.T / flat.sum(axis=1)
    return result


def drift(before: Floats, after: Floats, count: int) -> Drift:
    """From one recording [layers, experts] to another of the same model; their totals need not be alike.

    Args:
        count: number of a layer's experts that count as hot.

    Raises:
        ValueError: the recordings are of different shape, or share no layer with load.
    """
    before, after = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    if before.shape != after.shape:
        raise ValueError(f"recordings of {before.shape} and {after.shape} are not of the same model")
    both = has_experts(before) & has_experts(after)
    if not both.any():
        raise ValueError("the recordings share no layer with load")
    p, q = (x[both] / x[both].sum(axis=1, keepdims=True) for x in (before, after))
    a, b = (x - x.mean(axis=1, keepdims=True) for x in (p, q))
    norm = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    correlation = np.divide((a * b).sum(axis=1), norm, out=np.full(len(norm), np.nan), where=norm > 1e-15)
    return Drift(
        moved=np.abs(p - q).sum(axis=1) / 2,
        correlation=correlation,
        still_hot=(hot(p, count) & hot(q, count)).sum(axis=1) / count,
    )


def experts_per_gpu(experts: int, redundant: int, ep: int) -> float:
    """Expert slots of a layer on each GPU; a whole number for layouts that engines accept."""
    return (experts + redundant) / ep


def group_sizes(load: Floats, placement: Placement, tokens: float, top_k: int) -> Floats:
    """Tokens in each group of the grouped matrix product, [layers with experts, ep, slots per rank].

    Expected sizes for a batch of ``tokens`` over all ranks whose experts are chosen as in ``load`` [layers,
    experts], each token by ``top_k`` of them. Wide expert parallelism makes groups larger: the same GPU's share
    of the batch is spread over fewer experts.
    """
    with_experts = has_experts(load)
    share = np.asarray(load, dtype=np.float64)[with_experts]
    share /= share.sum(axis=1, keepdims=True)
    kept = _of(placement, with_experts)
    result: Floats = slot_load(share * tokens * top_k, kept).reshape(kept.layers, kept.ep, -1)
    return result
