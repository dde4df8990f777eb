from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wideloop.results.statistics import (
    LOOKS,
    PairedGain,
    coefficient_of_variation,
    conclude,
    is_decided,
    only_look,
    paired_gain,
    pairs_needed,
    pareto_front,
)

positive = st.floats(min_value=1, max_value=1e6)
pairs = st.lists(st.tuples(positive, positive), min_size=3, max_size=12)
coordinate = st.integers(min_value=-5, max_value=5).map(float)


def test_a_single_look_is_students_t_on_logarithms() -> None:
    # Logarithms 0.2 and 0.4 against 0 and 0: difference 0.3, s = 0.1, t(2, 97.5 %) = 4.30265.
    gain = paired_gain([math.exp(0.2), math.exp(0.4)], [1.0, 1.0], only_look(2))
    assert math.log1p(gain.gain) == pytest.approx(0.3)
    assert math.log1p(gain.high) - 0.3 == pytest.approx(4.30265 * 0.1, rel=1e-5)
    assert (gain.confidence, gain.pairs) == (0.95, 2)


def test_the_interval_is_what_all_looks_agree_on() -> None:
    best, default = [110.0, 111, 109, 110, 112, 108, 110, 111], [100.0, 101, 99, 100, 101, 98, 100, 102]
    intervals = [paired_gain(best[:n], default[:n]) for n in range(3, 9)]
    for earlier, later in pairwise(intervals):
        assert earlier.low <= later.low <= later.gain <= later.high <= earlier.high


@pytest.mark.parametrize("count", [3, 4, 5, 6])
def test_equal_values_do_not_show_that_there_is_no_scatter(count: int) -> None:
    gain = paired_gain([102.0] * count, [100.0] * count)
    assert gain.low < 0 < gain.high


def test_one_slow_run_of_the_default_is_no_gain() -> None:
    # Two-valued results: t alone would exclude 0 at four pairs.
    gain = paired_gain([110.0, 110, 110, 100], [100.0] * 4)
    assert gain.low == 0.0 and not is_decided(gain)


@given(pairs)
def test_the_gain_lies_within_its_interval(values: list[tuple[float, float]]) -> None:
    gain = paired_gain([b for b, _ in values], [d for _, d in values])
    assert gain.low <= gain.gain <= gain.high


@given(pairs, st.floats(min_value=0.1, max_value=10))
def test_the_unit_does_not_matter(values: list[tuple[float, float]], unit: float) -> None:
    best, default = zip(*values, strict=True)
    here = paired_gain(best, default)
    there = paired_gain([b * unit for b in best], [d * unit for d in default])
    assert there.gain == pytest.approx(here.gain, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(
    ("best", "default", "message"),
    [
        ([1.0], [1.0], "at least 3 pairs"),
        ([], [], "at least 3 pairs"),
        ([1.0, 2.0], [1.0], "not 2 and 1"),
        ([1.0, 2.0, 1.0], [1.0, 0.0, 1.0], "positive values"),
        ([-1.0, 2.0, 1.0], [1.0, 1.0, 1.0], "positive values"),
    ],
)
def test_what_cannot_be_concluded_is_refused_in_words(best: list[float], default: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        paired_gain(best, default)


def test_the_scatter_of_one_value_is_unknown() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        coefficient_of_variation([1.0])
    assert coefficient_of_variation([90, 110]) == pytest.approx(math.sqrt(200) / 100)


@pytest.mark.parametrize(
    ("gain", "low", "high", "slo_met", "expected", "reason"),
    [
        (0.20, 0.15, 0.25, True, "adopt", "excludes 0"),
        (0.001, 0.0001, 0.002, True, "adopt", "excludes 0"),
        (0.20, -0.01, 0.41, True, "inconclusive", "measure more pairs"),
        (0.20, 0.0, 0.40, True, "inconclusive", "measure more pairs"),
        (0.001, -0.04, 0.04, True, "inconclusive", "would not help"),
        (0.001, -0.012, 0.015, True, "keep default", "no difference larger than 1.5%"),
        (-0.20, -0.25, -0.15, True, "keep default", "slower"),
        (0.20, 0.15, 0.25, False, "keep default", "missed the service-level objective"),
    ],
)
def test_verdicts(gain: float, low: float, high: float, slo_met: bool, expected: str, reason: str) -> None:
    conclusion = conclude(PairedGain(gain, low, high, 0.95, 4), [99, 101, 100, 100], slo_met=slo_met)
    assert conclusion.verdict == expected
    assert reason in conclusion.reason


def test_more_repeats_are_advised_only_where_the_run_may_not_measure_them() -> None:
    gain = PairedGain(0.05, -0.01, 0.11, 0.95, 4)
    assert "allow more repeats" in conclude(gain, [97, 103, 100, 100], slo_met=True, most_pairs=4).reason
    assert "would not help" in conclude(gain._replace(pairs=8), [97, 103, 100, 100], slo_met=True).reason


@pytest.mark.parametrize(("gain", "scatter", "needed"), [(0.10, 0.03, 7), (0.05, 0.03, 8), (0.03, 0.03, None)])
def test_the_pairs_that_would_decide(gain: float, scatter: float, needed: int | None) -> None:
    assert pairs_needed(PairedGain(gain, -1, 1, 0.95, 4), scatter) == needed


@given(pairs, st.booleans())
def test_nothing_is_adopted_whose_interval_includes_zero(values: list[tuple[float, float]], slo_met: bool) -> None:
    best, default = zip(*values, strict=True)
    gain = paired_gain(best, default)
    conclusion = conclude(gain, default, slo_met=slo_met)
    if conclusion.verdict == "adopt":
        assert gain.low > 0
        assert slo_met


def _adopted(ratio: float, scatter: float, most: int, seeds: int = 1500) -> float:
    random, adopted = np.random.default_rng(11), 0
    for _ in range(seeds):
        best = ratio * (1 + scatter * random.standard_normal(most))
        default = 1 + scatter * random.standard_normal(most)
        looks = (paired_gain(best[:n].tolist(), default[:n].tolist()) for n in range(min(LOOKS), most + 1))
        adopted += any(gain.low > 0 for gain in looks)
    return adopted / seeds


def test_equal_configurations_are_rarely_told_apart_however_often_one_looks() -> None:
    assert _adopted(1.0, 0.03, 8) <= 0.035  # 2.5 %; three standard errors of 1500 seeds are 1.2 %.


def test_a_gain_of_three_sigma_is_decided_in_four_pairs() -> None:
    assert _adopted(1.1, 0.03, 4) >= 0.87


@given(st.lists(st.tuples(coordinate, coordinate), max_size=30))
def test_the_front_is_what_nothing_beats(points: list[tuple[float, float]]) -> None:
    def beaten(p: tuple[float, float]) -> bool:
        return any(q[0] >= p[0] and q[1] >= p[1] and q != p for q in points)

    front = pareto_front(points)
    assert sorted(front) == [i for i, p in enumerate(points) if not beaten(p)]
    assert [points[i][0] for i in front] == sorted(points[i][0] for i in front)
