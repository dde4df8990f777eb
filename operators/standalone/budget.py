"""The time a driver may take, and whether the next piece of work still fits."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from wideloop.manifests.errors import WideloopError


class OutOfTime(WideloopError):
    """The rest does not fit into the budget; the same command goes on with it."""


class Budget:
    """Seconds from now on; None: no end. A unit of work is taken to last as long as the longest of its kind before.

    Args:
        first_s: what the first unit of each kind may take, before one was seen.
    """

    def __init__(self, seconds: float | None, first_s: float = 90.0) -> None:
        self._end = None if seconds is None else time.monotonic() + seconds
        self._first = first_s
        self._longest: dict[str, float] = {}

    @property
    def left_s(self) -> float:
        return float("inf") if self._end is None else self._end - time.monotonic()

    @contextlib.contextmanager
    def unit(self, kind: str) -> Iterator[None]:
        """Do one unit of work.

        Raises:
            OutOfTime: before it begins, when it would not fit.
        """
        need = self._longest.get(kind, self._first)
        if self.left_s < need:
            raise OutOfTime(f"{self.left_s:.0f} s are left and a {kind} takes {need:.0f} s")
        began = time.monotonic()
        yield
        self._longest[kind] = max(time.monotonic() - began, self._longest.get(kind, 0.0))
