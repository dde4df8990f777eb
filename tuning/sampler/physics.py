"""What is known of a point before it is tried: the memory that would be left, and the value that it would have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

#: A quantity of a point.
OfPoint = Callable[[Mapping[str, float]], float]


@dataclass(frozen=True)
class Physics:
    """Models of a deployment, as functions of a point of its search space.

    Attributes:
        headroom_gib: GiB per GPU that would be left under load; negative: missing. None: there is no memory model.
        expected_value: predicted objective, > 0, in any unit: only ratios count. None: no performance model.

    Example:
        >>> physics = Physics(headroom_gib=lambda point: 20 * (0.95 - point["mem_fraction_static"]))
        >>> round(physics.headroom_gib({"mem_fraction_static": 0.9}), 6)
        1.0
    """

    headroom_gib: OfPoint | None = None
    expected_value: OfPoint | None = None


UNKNOWN = Physics()
