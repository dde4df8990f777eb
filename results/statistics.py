"""Conclusions from repeated measurements: the gain and its interval, the verdict on it, the Pareto front.

Pairs are measured until the gain is decided, so it is looked at after every pair from the third on. A rule that is
made for one look errs more often with each further one; here the error of all looks together is bounded, as in a
group-sequential test (error spending: Lan and DeMets, Biometrika 1983; intervals that hold at every look: Jennison and
Turnbull, JRSS B 1989; Student's t at nominal levels: the same, Group Sequential Methods, 2000, chapter 4.4).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Literal, NamedTuple

#: A difference up to this counts as none: servers scatter by as much from run to run.
NEGLIGIBLE = 0.02


class Look(NamedTuple):
    """One look at the pairs that were measured so far.

    Attributes:
        level: error that is spent on each side of the interval.
        wins: of all comparisons of a run of one side with a run of the other, those that the better side must win
            (5 % by Mann and Whitney's rank sum). Without it two-valued or rounded results exclude 0 twice too often.
        least_scatter: relative scatter of single runs that is assumed at least; few equal values do not show that there
            is none.
    """

    level: float
    wins: int = 0
    least_scatter: float = 0.0


#: Levels by number of pairs. All looks together err in 2.5 % of cycles on each side where runs scatter normally, less
#: than the sum of the levels (simulated: ``make bench ONLY=power``). Most of it is spent at four pairs, where a gain of
#: three sigma is decided, and at eight.
LOOKS: Mapping[int, Look] = {
    3: Look(0.0002, 9, 0.025),
    4: Look(0.0137, 15, 0.0125),
    5: Look(0.0001, 21, 0.0083),
    6: Look(0.0001, 29, 0.0063),
    7: Look(0.0001, 38, 0.0050),
    8: Look(0.0158, 49, 0.0042),
}
CONFIDENCE = 0.95
LEAST_PAIRS, MOST_PAIRS = min(LOOKS), max(LOOKS)


class PairedGain(NamedTuple):
    """A relative gain, 0.1 for 10 %, and the interval that holds it at ``confidence``, after however many looks."""

    gain: float
    low: float
    high: float
    confidence: float
    pairs: int


class Conclusion(NamedTuple):
    """What to do, and the sentence that gives the reason."""

    verdict: Literal["adopt", "keep default", "inconclusive"]
    reason: str


def paired_gain(best: Sequence[float], default: Sequence[float], looks: Mapping[int, Look] | None = None) -> PairedGain:
    """Relative gain of ``best`` over ``default``, measured alternately, and an interval that holds at every look.

    The gain is the ratio of the geometric means. A look after n pairs bounds its logarithm by the difference of the
    means ± t(2n-2) · s · sqrt(2/n), where s is the scatter of single runs, pooled over both sides; the interval is what
    all looks so far agree on. Runs are alternated (a b, b a), so that what drifts widens s and favours no side.

    Args:
        looks: by number of pairs; :data:`LOOKS` unless the number of pairs was fixed beforehand (:func:`only_look`).

    Raises:
        ValueError: fewer pairs than the first look needs, unequal lengths, or a value <= 0.

    >>> tuple(round(x, 3) for x in paired_gain([110, 111, 110, 109], [100, 101, 99, 100])[:3])
    (0.1, 0.072, 0.129)
    """
    looks = LOOKS if looks is None else looks
    if len(best) != len(default):
        raise ValueError(f"pairs need as many repeats of one as of the other, not {len(best)} and {len(default)}")
    if len(best) < min(looks):
        raise ValueError(
            f"{len(best)} pair(s) of repeats cannot say how much a difference scatters; measure at least {min(looks)}"
            " pairs"
        )
    if min(*best, *default) <= 0:
        raise ValueError(f"a relative gain needs positive values, not {min(*best, *default)}")
    low, high = -math.inf, math.inf
    for pairs in sorted(n for n in looks if n <= len(best)):
        bounds = _bounds(best[:pairs], default[:pairs], looks[pairs])
        # Two looks that exclude each other are a sign of drift; the later one has seen more.
        low, high = (max(low, bounds[0]), min(high, bounds[1])) if bounds[0] <= high and bounds[1] >= low else bounds
    middle = min(max(_difference(best, default), low), high)
    return PairedGain(math.expm1(middle), math.expm1(low), math.expm1(high), CONFIDENCE, len(best))


def only_look(pairs: int) -> dict[int, Look]:
    """The look of a comparison whose number of ``pairs`` was fixed before it began."""
    return {pairs: Look((1 - CONFIDENCE) / 2)}


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


def mean_and_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Mean and half-width of its Student-t interval at 95 %; infinite for a single value, None for none."""
    if not values:
        return None
    mean = statistics.fmean(values)
    if len(values) == 1:
        return mean, float("inf")
    return mean, _quantile((1 + CONFIDENCE) / 2, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5


def conclude(gain: PairedGain, default: Sequence[float], *, slo_met: bool, most_pairs: int = MOST_PAIRS) -> Conclusion:
    """Adopt a configuration that meets the SLO and whose interval excludes 0.

    Args:
        default: the repeats of the default, whose scatter says whether more pairs would decide.
        slo_met: whether the best configuration meets the service-level objective in its repeats.
        most_pairs: pairs that the run may measure.
    """
    interval = f"{gain.low:+.1%} to {gain.high:+.1%} at {gain.confidence:.0%}, {gain.pairs} pairs"
    if not slo_met:
        return Conclusion("keep default", "the best configuration missed the service-level objective in its repeats")
    if gain.low > 0:
        return Conclusion("adopt", f"the interval of the gain excludes 0 ({interval})")
    if gain.high < 0:
        return Conclusion("keep default", f"in paired repeats the best configuration is slower ({interval})")
    if gain.high <= NEGLIGIBLE:
        largest = max(abs(gain.low), abs(gain.high))
        return Conclusion("keep default", f"there is no difference larger than {largest:.1%} ({interval})")
    needed = pairs_needed(gain, coefficient_of_variation(default))
    if needed is None:
        advice = (
            f"single runs of the default scatter by {coefficient_of_variation(default):.1%}, so that {MOST_PAIRS} pairs"
            " would not tell such a gain from none: more pairs would not help"
        )
    elif gain.pairs >= most_pairs:
        advice = f"about {needed} pairs would decide it: allow more repeats"
    else:
        advice = f"about {needed} pairs would decide it: measure more pairs"
    return Conclusion("inconclusive", f"the interval of the gain includes 0 ({interval}); {advice}")


def is_decided(gain: PairedGain) -> bool:
    """Whether further pairs could not change the verdict: a difference is shown, or that there is none to gain."""
    return gain.low > 0 or gain.high <= NEGLIGIBLE


def pairs_needed(gain: PairedGain, scatter: float) -> int | None:
    """At how many pairs in all the interval would exclude 0, were the gain as it was measured; None: at no look."""
    later = (n for n in sorted(LOOKS) if n > gain.pairs)
    return next((n for n in later if abs(math.log1p(gain.gain)) > _half_width(n, scatter, LOOKS[n])), None)


def _difference(best: Sequence[float], default: Sequence[float]) -> float:
    return statistics.fmean(map(math.log, best)) - statistics.fmean(map(math.log, default))


def _variance(values: Sequence[float]) -> float:
    """Of the logarithms. statistics.variance is exact in fractions, and a hundred times slower."""
    logarithms = [math.log(v) for v in values]
    mean = math.fsum(logarithms) / len(values)
    return math.fsum((x - mean) ** 2 for x in logarithms) / (len(values) - 1)


def _bounds(best: Sequence[float], default: Sequence[float], look: Look) -> tuple[float, float]:
    """Of the logarithm of the gain, at one look; not beyond 0 where the runs' ranks do not show the difference."""
    pooled = (_variance(best) + _variance(default)) / 2
    middle, half = _difference(best, default), _half_width(len(best), math.sqrt(pooled), look)
    wins = sum((b > d) + (b == d) / 2 for b in best for d in default)
    low, high = middle - half, middle + half
    if wins < look.wins:
        low = min(low, 0.0)
    if len(best) ** 2 - wins < look.wins:
        high = max(high, 0.0)
    return low, high


def _half_width(pairs: int, scatter: float, look: Look) -> float:
    return _quantile(1 - look.level, 2 * (pairs - 1)) * max(scatter, look.least_scatter) * math.sqrt(2 / pairs)


@cache
def _quantile(probability: float, degrees: int) -> float:
    from scipy.stats import t

    return float(t.ppf(probability, degrees))


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
