"""How far the memory model can be trusted: the probability that a point fits, from the model and from what has run.

The model's error is taken as a constant plus a slope for each dimension. How large such errors are is not known
beforehand: for four sizes, from a model that is right to one that is 8 GiB off, the error is estimated from the trials
(Laplace's approximation), and each size counts by how well it explains them. So a model that was right so far may be
used close to its limit, and the first trial that contradicts it moves the limit by gigabytes.
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
    """The posterior of the memory model's error."""

    def __init__(self, trials: Sequence[MemoryTrial], dimensions: int, *, has_model: bool = True) -> None:
        slope = _SLOPE if has_model else _SLOPE_WITHOUT_MODEL
        self._fits = [_Fit.of(trials, size, slope * size, dimensions) for size, _ in _SIZES]
        evidence = np.array([f.evidence for f in self._fits]) + np.log([share for _, share in _SIZES])
        self._shares = np.exp(evidence - evidence.max())
        self._shares /= self._shares.sum()

    def fits(self, x: Floats, predicted: Floats) -> Floats:
        """Probability that each of ``x`` [points, dimensions] fits, where the model predicts ``predicted`` GiB left."""
        from scipy.special import ndtr

        basis = _basis(x)
        result = np.zeros(len(basis))
        for share, fit in zip(self._shares, self._fits, strict=True):
            mean = predicted + basis @ fit.mean
            variance = np.einsum("ij,jk,ik->i", basis, fit.covariance, basis) + _SCATTER**2
            result += share * ndtr(mean / np.sqrt(variance))
        return result

    def error_gib(self, x: Floats) -> Floats:
        """Expected error at ``x``: GiB that are left beyond the prediction."""
        means = np.stack([_basis(x) @ fit.mean for fit in self._fits])
        result: Floats = self._shares @ means
        return result


@dataclass(frozen=True)
class _Fit:
    """Coefficients of the error for one size of it, and the logarithm of how well they explain the trials."""

    mean: Floats
    covariance: Floats
    evidence: float

    @classmethod
    def of(cls, trials: Sequence[MemoryTrial], size: float, slope: float, dimensions: int) -> _Fit:
        prior = np.diag([size**2] + [slope**2] * dimensions)
        precision = np.linalg.inv(prior)
        mean = np.zeros(dimensions + 1)
        if not trials:
            return cls(mean, prior, 0.0)
        basis = _basis(np.array([t.x for t in trials]))
        for _ in range(30):
            _, slope, curvature = _likelihood(trials, basis @ mean)
            hessian = precision + basis.T @ (curvature[:, None] * basis)
            step = np.linalg.solve(hessian, basis.T @ slope - precision @ mean)
            mean = mean + step
            if np.max(np.abs(step)) < 1e-6:
                break
        value, _, curvature = _likelihood(trials, basis @ mean)
        hessian = precision + basis.T @ (curvature[:, None] * basis)
        covariance = np.linalg.inv(hessian)
        evidence = value.sum() - 0.5 * mean @ precision @ mean
        evidence += 0.5 * (np.linalg.slogdet(covariance)[1] - np.linalg.slogdet(prior)[1])
        return cls(mean, covariance, float(evidence))


def _basis(x: Floats) -> Floats:
    x = np.atleast_2d(x)
    return np.hstack([np.ones((len(x), 1)), x - 0.5])


def _likelihood(trials: Sequence[MemoryTrial], error: Floats) -> tuple[Floats, Floats, Floats]:
    """Log-likelihood of each trial, its slope and its negative curvature by the model's error there."""
    left = np.array([t.predicted for t in trials]) + error
    sign = np.array([1.0 if t.fits else -1.0 for t in trials])
    missing = np.array([0.0 if t.fits or t.amount is None else t.amount for t in trials])
    value, slope, curvature = _probit(sign * (left + missing) / _SCATTER)
    slope, curvature = sign * slope / _SCATTER, curvature / _SCATTER**2
    for k, trial in enumerate(trials):
        if trial.fits and trial.amount is not None:
            off = (left[k] - trial.amount) / _READING
            value[k], slope[k], curvature[k] = -0.5 * off**2, -off / _READING, 1 / _READING**2
    return value, slope, curvature


def _probit(z: Floats) -> tuple[Floats, Floats, Floats]:
    """log of the normal distribution function, its slope, and its negative curvature."""
    from scipy.special import log_ndtr

    value = log_ndtr(z)
    slope = np.exp(-0.5 * z**2 - 0.5 * np.log(2 * np.pi) - value)
    return value, slope, slope * (slope + z)
