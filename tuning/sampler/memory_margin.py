"""How far the memory model can be trusted: the probability that a point fits, from the model and from what has run.

The model's error is taken as a constant plus a slope for each dimension. How large such errors are is not known
beforehand, so that there are four sizes, from a model that is right to one that is 8 GiB off. Trials whose memory was
measured correct the error directly; those of which only the outcome is known exclude errors that contradict it. So a
model that was right so far may be used close to its limit, and the first trial that contradicts it moves the limit by
gigabytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]

#: Sizes of the model's error in GiB, and how likely each is before any trial.
_SIZES = ((0.35, 0.40), (1.0, 0.30), (3.0, 0.20), (8.0, 0.10))
#: The slope of the error across a whole dimension, as a share of its size: with a model, and where the whole need for
#: memory is an error because there is no model.
_SLOPE, _SLOPE_WITHOUT_MODEL = 0.5, 4.0
#: Scatter of the need for memory that no model explains, and of a measured amount, GiB.
_SCATTER, _READING = 0.15, 0.3
#: Errors drawn for each size, and of all of them those that are kept.
_DRAWS, _KEPT = 8000, 500


@dataclass(frozen=True)
class MemoryTrial:
    """What one trial showed about memory.

    Attributes:
        x: its point in the unit cube.
        predicted: GiB that the model said would be left; negative: missing.
        fits: whether it ran.
        amount: GiB that were left, or were missing at least; None when unknown.
    """

    x: Floats
    predicted: float
    fits: bool
    amount: float | None = None


class MemoryMargin:
    """The posterior of the memory model's error, as draws of its coefficients.

    Args:
        has_model: False where ``predicted`` is the same everywhere because there is no model.
    """

    def __init__(self, trials: Sequence[MemoryTrial], dimensions: int, *, has_model: bool = True) -> None:
        slope = _SLOPE if has_model else _SLOPE_WITHOUT_MODEL
        measured = [t for t in trials if t.fits and t.amount is not None]
        others = [t for t in trials if not t.fits or t.amount is None]
        random = np.random.default_rng(len(trials))
        draws, weights = [], []
        for size, share in _SIZES:
            prior = np.diag([size**2] + [(slope * size) ** 2] * dimensions)
            mean, covariance, evidence = _corrected(prior, measured)
            drawn = random.multivariate_normal(mean, covariance, size=_DRAWS, method="cholesky")
            draws.append(drawn)
            weights.append(np.log(share) + evidence + _log_likelihood(drawn, others))
        logs = np.concatenate(weights)
        likely = np.exp(logs - logs.max())
        kept = random.choice(len(logs), size=_KEPT, p=likely / likely.sum())
        self._coefficients = np.concatenate(draws)[kept]

    def fits(self, x: Floats, predicted: Floats) -> Floats:
        """Probability that each of ``x`` [points, dimensions] fits, where the model predicts ``predicted`` GiB left."""
        from scipy.special import ndtr

        left = np.asarray(predicted)[:, None] + _basis(x) @ self._coefficients.T
        result: Floats = ndtr(left / _SCATTER).mean(axis=1)
        return result

    def error_gib(self, x: Floats) -> Floats:
        """Expected error at ``x``: GiB that are left beyond the prediction."""
        result: Floats = (_basis(x) @ self._coefficients.T).mean(axis=1)
        return result


def _basis(x: Floats) -> Floats:
    x = np.atleast_2d(x)
    return np.hstack([np.ones((len(x), 1)), x - 0.5])


def _corrected(prior: Floats, trials: Sequence[MemoryTrial]) -> tuple[Floats, Floats, float]:
    """Mean and covariance of the error's coefficients given measured amounts, and the log-density of these."""
    if not trials:
        return np.zeros(len(prior)), prior, 0.0
    basis = _basis(np.array([t.x for t in trials]))
    off = np.array([(t.amount or 0.0) - t.predicted for t in trials])
    scatter = basis @ prior @ basis.T + _READING**2 * np.eye(len(trials))
    gain = np.linalg.solve(scatter, basis @ prior).T
    covariance = prior - gain @ basis @ prior
    covariance = (covariance + covariance.T) / 2 + 1e-9 * np.eye(len(prior))
    evidence = -0.5 * off @ np.linalg.solve(scatter, off) - 0.5 * np.linalg.slogdet(scatter)[1]
    return gain @ off, covariance, float(evidence)


def _log_likelihood(coefficients: Floats, trials: Sequence[MemoryTrial]) -> Floats:
    """Log-probability of the outcomes of ``trials`` for each row of coefficients."""
    from scipy.special import log_ndtr

    if not trials:
        return np.zeros(len(coefficients))
    sign = np.array([1.0 if t.fits else -1.0 for t in trials])
    missing = np.array([0.0 if t.fits else t.amount or 0.0 for t in trials])
    left = coefficients @ _basis(np.array([t.x for t in trials])).T + np.array([t.predicted for t in trials])
    result: Floats = log_ndtr(sign * (left + missing) / _SCATTER).sum(axis=1)
    return result
