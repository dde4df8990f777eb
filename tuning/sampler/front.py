"""The front of throughput and latency, and how much a point is expected to add to the area below it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]

#: Latencies beyond this multiple of the limit are of no interest.
_CORNER = 2.0
_SAMPLES = 48


class Front:
    """The area that measured points dominate: more throughput at less latency, up to twice the limit.

    Args:
        values: objectives, > 0.
        latencies: relative to the limit.
    """

    def __init__(self, values: Floats, latencies: Floats) -> None:
        inside = latencies < _CORNER
        order = np.argsort(latencies[inside])
        self._starts = np.concatenate([[0.0], latencies[inside][order]])
        self._ends = np.append(self._starts[1:], _CORNER)
        self._heights = (
            np.concatenate([[0.0], np.maximum.accumulate(values[inside][order])]) if inside.any() else np.zeros(1)
        )

    @property
    def area(self) -> float:
        return float(np.sum(self._heights * (self._ends - self._starts)))

    def gain(self, values: Floats, latencies: Floats) -> Floats:
        """Area that each point would add."""
        widths = np.maximum(self._ends - np.maximum(self._starts, latencies[..., None]), 0)
        result: Floats = np.sum(np.maximum(values[..., None] - self._heights, 0) * widths, axis=-1)
        return result

    def expected_gain(
        self, log_value: tuple[Floats, Floats], log_latency: tuple[Floats, Floats], random: np.random.Generator
    ) -> Floats:
        """Mean area that points add whose logarithms have these means and standard deviations."""
        z = random.normal(size=(2, _SAMPLES, 1))
        (value, value_spread), (latency, latency_spread) = log_value, log_latency
        values = np.exp(value + z[0] * value_spread)
        latencies = np.exp(latency + z[1] * latency_spread)
        result: Floats = self.gain(values, latencies).mean(axis=0)
        return result
