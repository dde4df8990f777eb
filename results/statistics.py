"""Conclusions from repeated measurements: the gain and its interval, the verdict on it, the Pareto front."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Literal, NamedTuple

#: A gain counts only when it exceeds this many coefficients of variation of the default's repeats.
#: Convention of this project (two sigma of run-to-run scatter), on top of the paired interval.
SCATTER_FACTOR = 2.0


class PairedGain(NamedTuple):
    """A relative gain, 0.1 for 10 %, and the interval that holds it at ``confidence``."""

    gain: float
    low: float
    high: float
    confidence: float
    pairs: int


class Conclusion(NamedTuple):
    """What to do, and the sentence that gives the reason."""

    verdict: Literal["adopt", "keep default", "inconclusive"]
    reason: str


def paired_gain(best: Sequence[float], default: Sequence[float], confidence: float = 0.95) -> PairedGain:
    """Mean relative gain of ``best`` over ``default``, measured alternately, and its Student-t interval.

    The i-th values belong together: they were measured one after the other, so that drift between pairs
    cancels. Each pair gives ``best / default - 1``; the interval is mean ± t(n-1) · s / sqrt(n).

    Raises:
        ValueError: fewer than two pairs, unequal lengths, a default <= 0, or confidence outside (0, 1).
    """
    if len(best) != len(default):
        raise ValueError(f"pairs need as many repeats of one as of the other, not {len(best)} and {len(default)}")
    if len(best) < 2:
        raise ValueError(
            f"{len(best)} pair(s) of repeats cannot say how much a difference scatters; measure at least 2 pairs"
        )
    if min(default) <= 0:
        raise ValueError(f"a relative gain needs positive defaults, not {min(default)}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence = {confidence} is outside (0, 1); use 0.95")
    from scipy.stats import t

    gains = [b / d - 1 for b, d in zip(best, default, strict=True)]
    mean = statistics.fmean(gains)
    half = float(t.ppf((1 + confidence) / 2, len(gains) - 1)) * statistics.stdev(gains) / len(gains) ** 0.5
    return PairedGain(mean, mean - half, mean + half, confidence, len(gains))


def coefficient_of_variation(values: Sequence[float]) -> float:
    """Sample standard deviation relative to the mean.

    Raises:
        ValueError: fewer than two values, or a mean <= 0.
    """
    if len(values) < 2:
        raise ValueError(f"the scatter of {len(values)} value(s) is unknown; measure at least 2")
    mean = statistics.fmean(values)
    if mean <= 0:
        raise ValueError(f"relative scatter needs a positive mean, not {mean}")
    return statistics.stdev(values) / mean


def conclude(gain: PairedGain, default: Sequence[float], *, slo_met: bool) -> Conclusion:
    """Adopt a configuration that meets the SLO, whose interval excludes 0 and whose gain exceeds the scatter.

    ``default`` are the repeats of the default configuration, ``slo_met`` whether the best configuration meets the
    service-level objective in its repeats.
    """
    scatter = coefficient_of_variation(default)
    interval = f"{gain.low:+.1%} to {gain.high:+.1%} at {gain.confidence:.0%}, {gain.pairs} pairs"
    if not slo_met:
        return Conclusion("keep default", "the best configuration missed the service-level objective in its repeats")
    if gain.high < 0:
        return Conclusion("keep default", f"in paired repeats the best configuration is slower ({interval})")
    if gain.low <= 0:
        return Conclusion("inconclusive", f"the interval of the gain includes 0 ({interval}); measure more pairs")
    if gain.gain <= SCATTER_FACTOR * scatter:
        return Conclusion(
            "inconclusive",
            f"the gain of {gain.gain:+.1%} is within {SCATTER_FACTOR:g} x the default's own scatter of {scatter:.1%};"
            " measure more pairs",
        )
    return Conclusion(
        "adopt",
        f"the interval of the gain excludes 0 ({interval}) and the gain exceeds {SCATTER_FACTOR:g} x the default's"
        f" own scatter of {scatter:.1%}",
    )


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of ``points`` that no other point beats, both coordinates maximised, by rising x.

    A point is beaten when another is at least as good in both and better in one; equal points stay.
    The front depends on the axes: recompute it for those that are shown.
    """
    front: list[int] = []
    best_y = float("-inf")
    best_x = float("inf")
    for i in sorted(range(len(points)), key=lambda i: (-points[i][0], -points[i][1])):
        x, y = points[i]
        if y > best_y or (y == best_y and x == best_x):
            front.append(i)
            best_x, best_y = x, y
    return front[::-1]
