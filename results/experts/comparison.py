"""Experts in the engine's own order against placed ones, measured in interleaved pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator
from wideloop.results.experts.outputs import Outputs
from wideloop.results.experts.rebalances import Rebalances
from wideloop.results.experts.sides import IN_ORDER, PLACED
from wideloop.results.records import Measurement
from wideloop.results.statistics import only_look, paired_gain

_MEASURES = ("output_tok_s", "input_tok_s", "ttft_ms_p50", "tpot_ms_p50", "tpot_ms_p99")


class Change(BaseModel):
    """A measure on both sides, the mean over pairs, and its relative change, 0.1 for 10 %.

    ``low`` and ``high`` bound the change at 95 % (Student's t over the runs); None with a single pair.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    before: float
    after: float
    change: float
    low: float | None = None
    high: float | None = None
    pairs: int = 1

    @property
    def certain(self) -> bool:
        """Whether the interval excludes no change at all."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


class Level(BaseModel):
    """One concurrency: the change of every measure, by the measurement's field."""

    model_config = ConfigDict(frozen=True)

    concurrency: int
    changes: dict[str, Change]


#: Fields of a proof as the standalone driver stored them before it shared :class:`Proof` with the DAGs.
_EARLIER_NAMES = {
    "balancedness_in_order": "before",
    "balancedness_predicted": "predicted",
    "balancedness_recorded": "measured",
}


class Proof(BaseModel):
    """Whether one role's placement took effect, and what it did to balance (mean over hottest rank load).

    Attributes:
        before, predicted: balance of the first recording without the placement, and with it.
        measured: balance of the second recording, made with the placement.
        correlation: median over layers of what both recordings count per expert; 1 when the placement is in effect.
        correlation_if_ignored: the same, had the engine ignored the placement. Both are None in earlier documents.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    state: Literal["honoured", "ignored", "unclear", "untold"]
    reason: str
    before: float
    predicted: float
    measured: float
    correlation: float | None = None
    correlation_if_ignored: float | None = None

    @model_validator(mode="before")
    @classmethod
    def _with_todays_names(cls, data: Any) -> Any:
        return {_EARLIER_NAMES.get(key, key): value for key, value in data.items()} if isinstance(data, dict) else data


class Comparison(BaseModel):
    """Everything that was compared, as stored with the cycle."""

    model_config = ConfigDict(frozen=True)

    simulated: bool
    eplb: Literal["static", "online"]
    levels: tuple[Level, ...]
    proofs: dict[str, Proof] = {}
    outputs: Outputs | None = None
    rebalances: dict[str, Rebalances] = {}
    verdict: str = ""


def changes(measurements: Sequence[Measurement]) -> tuple[Level, ...]:
    """What changed from :data:`IN_ORDER` to :data:`PLACED` at each level; the i-th repeats of both are a pair.

    Raises:
        ValueError: there is no level that was measured on both sides.
    """
    sides = {
        side: {(m.concurrency, m.repeat): m for m in measurements if m.label == side} for side in (IN_ORDER, PLACED)
    }
    both = sorted(sides[IN_ORDER].keys() & sides[PLACED].keys())
    if not both:
        raise ValueError("no level was measured on both sides")
    levels = []
    for level in sorted({concurrency for concurrency, _ in both}):
        pairs = [key for key in both if key[0] == level]
        placed, in_order = ([sides[side][key] for key in pairs] for side in (PLACED, IN_ORDER))
        levels.append(Level(concurrency=level, changes={name: _change(name, placed, in_order) for name in _MEASURES}))
    return tuple(levels)


def _change(name: str, after: Sequence[Measurement], before: Sequence[Measurement]) -> Change:
    ours, theirs = ([float(getattr(m, name)) for m in side] for side in (after, before))
    means: dict[str, Any] = {"before": sum(theirs) / len(theirs), "after": sum(ours) / len(ours), "pairs": len(ours)}
    if min(*ours, *theirs) <= 0:
        return Change(**means, change=0.0)
    if len(ours) < 2:
        return Change(**means, change=ours[0] / theirs[0] - 1)
    gain = paired_gain(ours, theirs, only_look(len(ours)))
    return Change(**means, change=gain.gain, low=gain.low, high=gain.high)


def concluded(comparison: Comparison) -> str:
    """The conclusion of a comparison, in one or two sentences."""
    wrong = next((p.reason for p in comparison.proofs.values() if p.state in ("ignored", "unclear")), None)
    if wrong is not None:
        return f"Not proven: {wrong}"
    if comparison.outputs is not None and comparison.outputs.state == "different":
        return f"Do not use it: {comparison.outputs.reason}"
    top = comparison.levels[-1]
    tokens = top.changes["output_tok_s"]
    interval = "" if tokens.low is None else f" ({tokens.low:+.1%} to {tokens.high:+.1%}, {tokens.pairs} pairs)"
    gain = f"{tokens.change:+.1%} output tok/s at concurrency {top.concurrency}{interval}"
    if tokens.low is None:
        return f"{gain}; one pair has no interval: measure more"
    if not tokens.certain:
        return f"{gain}: no difference beyond the scatter of the repeats"
    return f"{gain}: {'worth it' if tokens.change > 0 else 'it costs more than it gains'}"
