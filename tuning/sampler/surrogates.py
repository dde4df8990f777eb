"""Models of what trials measure: one Gaussian process for the objective and one for each constraint.

A quantity is modelled only where it was measured. A trial that ran out of memory says nothing about latency.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from wideloop.tuning.sampler.gaussian_process import GaussianProcess

Floats = npt.NDArray[np.floating[Any]]

#: Usual scatter of a repeated measurement, relative: throughput, and the 99th percentile of a latency.
_VALUE_NOISE, _LATENCY_NOISE = 0.03, 0.06


@dataclass(frozen=True)
class Observation:
    """One trial that served requests, or that is still running (``value`` None).

    Attributes:
        x: its point in the unit cube.
        value: its objective, larger is better.
        violations: relative distance to each limit, <= 0 is met; only what was measured.
    """

    x: Floats
    value: float | None
    violations: dict[str, float] = field(default_factory=dict)


class Surrogates:
    """Predictions of the objective and of the constraints at any point.

    Args:
        observations: finished and running trials.
        expected: logarithm of the predicted objective at rows of the unit cube: the mean from which measurements
            are taken to differ. None: a constant.
    """

    def __init__(self, observations: Sequence[Observation], expected: Callable[[Floats], Floats] | None) -> None:
        finished = [o for o in observations if o.value is not None]
        self._x = np.array([o.x for o in finished])
        values = np.array([o.value for o in finished])
        #: Values are modelled by their logarithm where they allow it: knobs act as factors.
        self._expected = expected if expected is not None else (lambda x: np.zeros(len(x)))
        self._values = GaussianProcess(self._x, _scaled(values) - self._expected(self._x), _VALUE_NOISE)
        self._constraints = dict(_constraint_models(finished))
        running = [o.x for o in observations if o.value is None]
        if running:
            self._believe(np.array(running))

    def value(self, x: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the (logarithm of the) objective."""
        mean, deviation = self._values.predict(x)
        return mean + self._expected(x), deviation

    def log_feasible(self, x: Floats, margin: float = 0.0, without: str | None = None) -> Floats:
        """Logarithm of the probability that all constraints are met; ``margin``: by that many noise deviations.

        ``without``: a constraint that is left out.
        """
        from scipy.special import log_ndtr

        total = np.zeros(len(x))
        for model in (m for name, m in self._constraints.items() if name != without):
            mean, deviation = model.predict(x)
            total += log_ndtr((-margin * model.noise - mean) / deviation)
        return total

    def constraint(self, name: str) -> GaussianProcess | None:
        """The model of a constraint, on its compressed scale; None when it is not modelled."""
        return self._constraints.get(name)

    def _believe(self, running: Floats) -> None:
        """Take the prediction at running trials as measured, so that the next one is asked for elsewhere."""
        self._values = self._values.believing(running)
        self._constraints = {name: model.believing(running) for name, model in self._constraints.items()}


def _constraint_models(finished: Sequence[Observation]) -> list[tuple[str, GaussianProcess]]:
    models = []
    for name in dict.fromkeys(n for o in finished for n in o.violations):
        measured = [o for o in finished if name in o.violations]
        z = compressed(np.array([o.violations[name] for o in measured]))
        if len(measured) > 1 and (np.ptp(z) > 1e-6 or z.max() > 0):
            models.append((name, GaussianProcess(np.array([o.x for o in measured]), z, _LATENCY_NOISE)))
    return models


def compressed(violations: Floats) -> Floats:
    """Violations on a scale where a latency of twice the limit is log 2, and one of fifty times is not 25 of these."""
    z = np.log1p(np.maximum(violations, -0.99))
    result: Floats = np.where(np.abs(z) > 1, np.sign(z) * (1 + np.log(np.maximum(np.abs(z), 1))), z)
    return result


def _scaled(values: Floats) -> Floats:
    if np.all(values > 0):
        result: Floats = np.log(values)
        return result
    spread = float(np.std(values)) or 1.0
    return values / spread
