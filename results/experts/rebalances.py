"""Online rebalances of SGLang's EPLB manager and what they cost, read from a worker's log.

Lines as 0.5.17 to 0.5.23 print them (``srt/eplb/eplb_manager.py``, ``expert_distribution.py``).
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Mapping

from pydantic import BaseModel, ConfigDict

_END = re.compile(r"\[EPLBManager\] rebalance end(?: time=(?P<seconds>[\d.]+)s)?")
_SKIPPED = "[EPLBManager] Skipped ep rebalancing"
_BALANCE = re.compile(
    r"\[Expert Balancedness\] forward_pass_id=(?P<number>\d+) current_pass_balancedness=(?P<value>[\d.]+)"
)
#: Points that are kept of the balancedness over time.
POINTS = 200


class Rebalances(BaseModel):
    """Attributes:
    seconds: of each rebalance, in order, during which nothing was served; None where layers move in chunks.
    skipped: rebalances that SGLang left out because the load was balanced enough.
    before, after: mean balancedness of the passes before the first and after the last rebalance, as SGLang counts it
        (dense layers as 1); None where it was not reported.
    over_time: (number of the pass, balancedness), at most :data:`POINTS` of them, evenly over all reported passes.
    by_mode: its mean over all passes since the start, by forward mode; from the metrics page, empty without one.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    seconds: tuple[float | None, ...] = ()
    skipped: int = 0
    before: float | None = None
    after: float | None = None
    over_time: tuple[tuple[int, float], ...] = ()
    by_mode: dict[str, float] = {}

    def __str__(self) -> str:
        seconds = [s for s in self.seconds if s is not None]
        each = f", {statistics.fmean(seconds):.2f} s each" if seconds else ""
        balance = f"; balancedness {self.before:.2f} to {self.after:.2f}" if self.before and self.after else ""
        return f"{len(self.seconds)} rebalances{each}, {self.skipped} left out{balance}"

    @property
    def stopped_s(self) -> float:
        """Seconds that serving stood still in all."""
        return sum(s for s in self.seconds if s is not None)


def read(lines: Iterable[str], by_mode: Mapping[str, float] | None = None) -> Rebalances:
    """The rebalances in a log of rank 0; other ranks log the same. ``by_mode``: from the metrics page."""
    seconds: list[float | None] = []
    skipped = 0
    first: list[float] = []
    last: list[float] = []
    reported: list[tuple[int, float]] = []
    for line in lines:
        if end := _END.search(line):
            seconds.append(float(end["seconds"]) if end["seconds"] else None)
            last = []
        elif balance := _BALANCE.search(line):
            (last if seconds else first).append(float(balance["value"]))
            reported.append((int(balance["number"]), float(balance["value"])))
        elif _SKIPPED in line:
            skipped += 1
    return Rebalances(
        seconds=tuple(seconds),
        skipped=skipped,
        before=_mean(first),
        after=_mean(last),
        over_time=tuple(reported[:: -(-len(reported) // POINTS) or 1]),
        by_mode=dict(by_mode or {}),
    )


def _mean(values: list[float]) -> float | None:
    return round(statistics.fmean(values), 4) if values else None
