"""How often each expert is chosen: the popularity model of the simulated engine.

Declared, not measured: per layer a lognormal over experts, seeded by the domain of the traffic. With
sigma = 0.8 the hottest of 128 experts gets 6 to 10 times the mean, as on the two-H200 runs whose
routers were skewed on purpose; published imbalance of real traffic is of that order. A recording of a
real deployment replaces it.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
from wideloop.manifests.model import ModelSpec

SIGMA = 0.8
DOMAIN = "mixed"
#: Correlation of the logarithms between two domains of traffic, as the skewed routers were built.
DOMAIN_CORRELATION = 0.3
#: Share of all tokens that choose the hottest expert, at most.
_MOST = 0.9
Floats = npt.NDArray[np.floating[Any]]


def popularity(model: ModelSpec, domain: str = DOMAIN, sigma: float = SIGMA) -> Floats:
    """Share of each expert in its layer's routed tokens: [moe_layers, experts], rows sum to 1.

    The same model and domain always give the same array.
    """
    shape = (model.num_moe_layers, model.num_experts)
    common = _rng(model.name).normal(size=shape)
    own = _rng(f"{model.name}/{domain}").normal(size=shape)
    mixed = np.sqrt(DOMAIN_CORRELATION) * common + np.sqrt(1 - DOMAIN_CORRELATION) * own
    weights = np.exp(sigma * mixed)
    return _capped(weights / weights.sum(axis=1, keepdims=True), _MOST / model.top_k)


def _capped(share: Floats, most: float) -> Floats:
    """``share`` without any above ``most``; what that cuts off goes to the others in proportion.

    A token chooses an expert once at most, so that none has more than one of its top-k choices.
    """
    for _ in range(share.shape[1]):
        over = share >= most
        if not (share > most * (1 + 1e-9)).any():
            break
        rest = np.where(over, 0.0, share)
        left = 1 - most * over.sum(axis=1, keepdims=True)
        share = np.where(over, most, rest * left / np.maximum(rest.sum(axis=1, keepdims=True), 1e-300))
    return share


#: Variance of the logarithms by which a sequence's popularity differs from the mean, where nothing was recorded: as one
#: domain's does from another's.
ASSUMED_VARIATION = SIGMA**2 * (1 - DOMAIN_CORRELATION)


def sequence_variation(windows: Floats, top_k: int, length: float) -> float:
    """The variance of the logarithms by which sequences differ, as windows [windows, layers, experts] of time show it.

    What windows differ by beyond chance, times the sequences of a window; at most what is assumed otherwise, because
    traffic that changes with time looks like sequences that differ. 0 for a single window.

    Args:
        top_k: experts of a token. length: tokens of a sequence that the counted passes process.
    """
    counts = np.asarray(windows, dtype=np.float64)
    counts = counts[:, counts.any(axis=(0, 2))]
    total = counts.sum(axis=2, keepdims=True)
    if len(counts) < 2 or not total.all():
        return 0.0
    share, mean = counts / total, counts.sum(axis=0) / counts.sum(axis=(0, 2))[:, None]
    by_chance = (mean * (1 - mean))[None] / total
    beyond = (((share - mean) ** 2).sum(axis=0) / (len(counts) - 1) - by_chance.mean(axis=0)).sum(axis=1)
    relative = max(float((beyond / (mean**2).sum(axis=1)).mean()), 0.0)
    sequences = max(float(total.mean()) / top_k / length, 1.0)
    return min(float(np.log1p(relative * sequences)), ASSUMED_VARIATION)


def step_variation(sequences: Floats | float, variation: float = ASSUMED_VARIATION) -> Floats:
    """Sigma of one step's popularity around the mean, when ``sequences`` share the step.

    Averaging over the sequences of a
    batch reduces that (variance of a mean of lognormals). A balanced placement cannot foresee this variation, and
    redundant experts absorb it.
    """
    result: Floats = np.sqrt(np.log1p(np.expm1(variation) / np.maximum(sequences, 1)))
    return result


def _rng(name: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(name.encode()))
