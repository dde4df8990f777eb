"""A Gaussian process for a few dozen noisy measurements in up to about ten dimensions.

Its covariance is a sum over dimensions plus a product over them: throughput is close to a product of one factor for
each knob, so the logarithm is close to a sum, which is learned from far fewer measurements than a general function.
Hyperparameters maximise the posterior density (log-normal priors); outliers lose weight as under Student's t noise.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]

#: Variance of the unknown constant mean, in variances of the measurements.
_MEAN_VARIANCE = 4.0
#: Prior of log(length scale): dimensions are scaled to [0, 1].
_LENGTH = (np.log(0.6), 0.9)
#: Prior of log(variance) of the additive and of the product part, in variances of the measurements.
_ADDITIVE, _PRODUCT = (np.log(1.0), 1.0), (np.log(0.3), 1.2)
#: Standard deviation of log(noise), and degrees of freedom of the noise: one measurement in some dozens is far off.
_NOISE_SPREAD, _FREEDOM = 0.7, 4.0
_JITTER = 1e-8


class GaussianProcess:
    """The posterior of a function on the unit cube, given measurements.

    Args:
        x: points, [measurements, dimensions].
        y: measured values.
        noise: usual standard deviation of one measurement, in units of ``y``: the median of its prior.

    Example:
        >>> x = np.linspace(0, 1, 9)[:, None]
        >>> mean, deviation = GaussianProcess(x, (x[:, 0] - 0.5) ** 2, noise=0.01).predict(np.array([[0.52]]))
        >>> bool(abs(mean[0]) < 0.02 and deviation[0] < 0.05)
        True
    """

    def __init__(self, x: Floats, y: Floats, noise: float) -> None:
        self._x = np.asarray(x, dtype=float)
        y = np.asarray(y, dtype=float)
        self._shift = float(np.median(y))
        spread = float(np.std(y))
        self._scale = spread if spread > noise else noise
        self._y = (y - self._shift) / self._scale
        self._noise_prior = 2 * np.log(noise / self._scale)
        self._weights = np.ones(len(y))
        self._steps = np.abs(self._x[:, None, :] - self._x[None, :, :])
        self._theta = self._fit(self._prior_median())
        residual = self._left_out()
        if np.any(np.abs(residual) > 2.5):
            # The larger noise of an outlier, by one step of the expectation maximisation of Student's t.
            self._weights = np.maximum((_FREEDOM + residual**2) / (_FREEDOM + 1), 1.0)
            self._theta = self._fit(self._theta)
        self._prepare()

    @property
    def noise(self) -> float:
        """Standard deviation of one measurement, in units of the measured values."""
        return float(np.exp(self._theta[-1] / 2) * self._scale)

    def predict(self, x: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the function (without noise) at ``x`` [points, dimensions]."""
        cross = self._covariance(np.abs(np.asarray(x)[:, None, :] - self._x[None, :, :]))
        _, additive, product, _ = self._split(self._theta)
        mean = cross @ self._alpha
        solved = np.linalg.solve(self._factor, cross.T)
        variance = additive + product + _MEAN_VARIANCE - np.sum(solved**2, axis=0)
        return self._shift + self._scale * mean, self._scale * np.sqrt(np.maximum(variance, 1e-10))

    def believing(self, x: Floats) -> GaussianProcess:
        """This process as if its mean had been measured at ``x``, with the same hyperparameters."""
        other = copy.copy(self)
        mean, _ = self.predict(x)
        other._x = np.vstack([self._x, x])
        other._y = np.append(self._y, (mean - self._shift) / self._scale)
        other._weights = np.append(self._weights, np.ones(len(x)))
        other._steps = np.abs(other._x[:, None, :] - other._x[None, :, :])
        other._prepare()
        return other

    def _prior_median(self) -> Floats:
        dims = self._x.shape[1]
        return np.array([_LENGTH[0]] * dims + [_ADDITIVE[0], _PRODUCT[0], self._noise_prior])

    def _prior_spread(self) -> Floats:
        return np.array([_LENGTH[1]] * self._x.shape[1] + [_ADDITIVE[1], _PRODUCT[1], 2 * _NOISE_SPREAD])

    def _split(self, theta: Floats) -> tuple[Floats, float, float, float]:
        lengths = np.exp(theta[:-3])
        additive, product, noise = np.exp(theta[-3:])
        return lengths, float(additive), float(product), float(noise)

    def _covariance(self, steps: Floats) -> Floats:
        lengths, additive, product, _ = self._split(self._theta)
        each = _matern(steps / lengths)
        result: Floats = _MEAN_VARIANCE + additive * each.mean(axis=-1) + product * each.prod(axis=-1)
        return result

    def _fit(self, start: Floats) -> Floats:
        from scipy.optimize import minimize

        median, spread = self._prior_median(), self._prior_spread()
        box = np.stack([median - 3 * spread, median + 3 * spread], axis=1)
        found = minimize(self._loss, start, jac=True, method="L-BFGS-B", bounds=box, options={"maxiter": 40})
        best: Floats = found.x
        return best

    def _loss(self, theta: Floats) -> tuple[float, Floats]:
        """Negative log posterior density and its gradient."""
        lengths, additive, product, noise = self._split(theta)
        scaled = self._steps / lengths
        each = _matern(scaled)
        whole = each.prod(axis=-1)
        mean_each = each.mean(axis=-1)
        dims = self._x.shape[1]
        matrix = _MEAN_VARIANCE + additive * mean_each + product * whole + np.diag(noise * self._weights + _JITTER)
        factor = np.linalg.cholesky(matrix)
        inverse = np.linalg.inv(matrix)
        alpha = inverse @ self._y
        loss = 0.5 * self._y @ alpha + np.log(np.diag(factor)).sum()
        slope = 0.5 * (inverse - np.outer(alpha, alpha))
        by_length = _matern_slope(scaled)
        rest = whole[..., None] / np.maximum(each, 1e-300)
        inner = by_length * (additive / dims + product * rest)
        gradient = np.empty_like(theta)
        gradient[:-3] = np.einsum("ij,ijd->d", slope, inner)
        gradient[-3] = np.sum(slope * additive * mean_each)
        gradient[-2] = np.sum(slope * product * whole)
        gradient[-1] = np.sum(np.diag(slope) * noise * self._weights)
        offset = (theta - self._prior_median()) / self._prior_spread()
        return float(loss + 0.5 * offset @ offset), gradient + offset / self._prior_spread()

    def _matrix(self) -> Floats:
        noise = np.exp(self._theta[-1]) * self._weights + _JITTER
        result: Floats = self._covariance(self._steps) + np.diag(noise)
        return result

    def _left_out(self) -> Floats:
        """Each measurement's distance from what the others predict, in its standard deviations."""
        inverse = np.linalg.inv(self._matrix())
        result: Floats = (inverse @ self._y) / np.sqrt(np.diag(inverse))
        return result

    def _prepare(self) -> None:
        matrix = self._matrix()
        self._factor = np.linalg.cholesky(matrix)
        self._alpha = np.linalg.solve(matrix, self._y)


def _matern(distance: Floats) -> Floats:
    """Matérn covariance of smoothness 5/2."""
    scaled = np.sqrt(5) * distance
    result: Floats = (1 + scaled + scaled**2 / 3) * np.exp(-scaled)
    return result


def _matern_slope(distance: Floats) -> Floats:
    """Its derivative by the logarithm of the length scale."""
    scaled = np.sqrt(5) * distance
    result: Floats = scaled**2 * (1 + scaled) / 3 * np.exp(-scaled)
    return result
