"""The points of a search space as points of the unit cube, and back in the digits that engines accept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from wideloop.tuning.space import Point, SearchSpace

Floats = npt.NDArray[np.floating[Any]]


class Cube:
    """Converts between points and rows of the unit cube, one column for each dimension of ``space``."""

    def __init__(self, space: SearchSpace) -> None:
        self._dimensions = list(space.dimensions)

    @property
    def dimensions(self) -> int:
        return len(self._dimensions)

    def rows(self, points: Sequence[Mapping[str, float]]) -> Floats:
        """The points as rows, [points, dimensions]."""
        columns = [d.to_unit(bounds, np.array([p[d.name] for p in points])) for d, bounds in self._dimensions]
        return np.stack(columns, axis=1) if points else np.empty((0, self.dimensions))

    def points(self, rows: Floats) -> list[Point]:
        """The points nearest to the rows."""
        dimensions = [d for d, _ in self._dimensions]
        columns = [d.from_unit(bounds, rows[:, k]) for k, (d, bounds) in enumerate(self._dimensions)]
        return [
            {d.name: d.rounded(value) for d, value in zip(dimensions, values, strict=True)}
            for values in zip(*columns, strict=True)
        ]

    def snapped(self, rows: Floats) -> Floats:
        """The rows moved to the nearest points, each once."""
        columns = [
            d.to_unit(bounds, d.from_unit(bounds, np.clip(rows[:, k], 0, 1)))
            for k, (d, bounds) in enumerate(self._dimensions)
        ]
        return np.unique(np.round(np.stack(columns, axis=1), 9), axis=0)

    def sobol(self, count: int, seed: int) -> Floats:
        """Evenly spread points of the space, about ``count``."""
        from scipy.stats import qmc

        rows = qmc.Sobol(self.dimensions, seed=seed).random_base2(int(np.ceil(np.log2(count))))
        return self.snapped(rows)
