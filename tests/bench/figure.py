"""One measured figure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Figure:
    """A figure and what it consists of.

    Attributes:
        name: what was measured.
        target: the largest value that is allowed, None where none was promised.
        value: what was measured, in ``unit``.
        made_of: where the value comes from, part by part; also how it was measured where that is not obvious.
    """

    name: str
    target: float | None
    value: float
    unit: str
    made_of: str

    @property
    def met(self) -> bool | None:
        """Whether the target was kept; None where there is none."""
        return None if self.target is None else self.value <= self.target


def parts(values: Mapping[Any, float], unit: str, digits: int = 1) -> str:
    """E.g. ``ask 0.9 s, tell 1.3 s``."""
    return ", ".join(f"{name} {value:.{digits}f} {unit}" for name, value in values.items())
