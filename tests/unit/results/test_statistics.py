from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wideloop.results.statistics import PairedGain, coefficient_of_variation, conclude, paired_gain, pareto_front

positive = st.floats(min_value=1, max_value=1e6)
pairs = st.lists(st.tuples(positive, positive), min_size=2, max_size=12)
coordinate = st.integers(min_value=-5, max_value=5).map(float)


def test_two_pairs_by_hand() -> None:
    # gains 0.2 and 0.3: mean 0.25, s = 0.0707107, s / sqrt 2 = 0.05, t(1, 97.5 %) = 12.7062
    found = paired_gain([120, 130], [100, 100])
    assert found.gain == pytest.approx(0.25)
    assert found.high - found.gain == pytest.approx(12.7062 * 0.05, rel=1e-5)
    assert found.pairs == 2


def test_drift_that_both_halves_of_a_pair_share_cancels() -> None:
    found = paired_gain([110, 220, 55], [100, 200, 50])
    assert found == pytest.approx((0.1, 0.1, 0.1, 0.95, 3))


@given(pairs)
def test_the_interval_is_centred_on_the_mean_of_the_pairs(values: list[tuple[float, float]]) -> None:
    found = paired_gain([b for b, _ in values], [d for _, d in values])
    assert found.low <= found.gain <= found.high
    assert found.gain - found.low == pytest.approx(found.high - found.gain, abs=1e-6)
    assert found.gain == pytest.approx(sum(b / d - 1 for b, d in values) / len(values))


@given(pairs, st.floats(min_value=0.1, max_value=10))
def test_the_unit_does_not_matter(values: list[tuple[float, float]], unit: float) -> None:
    best, default = zip(*values, strict=True)
    here = paired_gain(best, default)
    there = paired_gain([b * unit for b in best], [d * unit for d in default])
    assert there.gain == pytest.approx(here.gain, rel=1e-6, abs=1e-9)


def test_more_confidence_is_a_wider_interval() -> None:
    best, default = [120, 130, 125], [100, 100, 100]
    assert paired_gain(best, default, 0.99).high > paired_gain(best, default, 0.95).high


@pytest.mark.parametrize(
    ("best", "default", "confidence", "says"),
    [
        ([1.0], [1.0], 0.95, "at least 2 pairs"),
        ([], [], 0.95, "at least 2 pairs"),
        ([1.0, 2.0], [1.0], 0.95, "not 2 and 1"),
        ([1.0, 2.0], [1.0, 0.0], 0.95, "positive defaults"),
        ([1.0, 2.0], [1.0, 1.0], 95, "use 0.95"),
    ],
)
def test_what_cannot_be_concluded_is_refused_in_words(best, default, confidence, says) -> None:
    with pytest.raises(ValueError, match=says):
        paired_gain(best, default, confidence)


def test_the_scatter_of_one_value_is_unknown() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        coefficient_of_variation([1.0])
    assert coefficient_of_variation([90, 110]) == pytest.approx(math.sqrt(200) / 100)


@pytest.mark.parametrize(
    ("gain", "low", "high", "default", "slo_met", "expected"),
    [
        (0.20, 0.15, 0.25, [100, 101], True, "adopt"),
        (0.20, -0.01, 0.41, [100, 101], True, "inconclusive"),
        (0.20, 0.0, 0.40, [100, 101], True, "inconclusive"),
        (0.20, 0.15, 0.25, [90, 110], True, "inconclusive"),
        (-0.20, -0.25, -0.15, [100, 101], True, "keep default"),
        (0.20, 0.15, 0.25, [100, 101], False, "keep default"),
    ],
)
def test_verdicts(gain, low, high, default, slo_met, expected) -> None:
    conclusion = conclude(PairedGain(gain, low, high, 0.95, 2), default, slo_met=slo_met)
    assert conclusion.verdict == expected
    assert conclusion.reason


@given(pairs, st.booleans())
def test_nothing_is_adopted_whose_interval_includes_zero(values: list[tuple[float, float]], slo_met: bool) -> None:
    best, default = zip(*values, strict=True)
    gain = paired_gain(best, default)
    conclusion = conclude(gain, default, slo_met=slo_met)
    if conclusion.verdict == "adopt":
        assert gain.low > 0
        assert slo_met


@given(st.lists(st.tuples(coordinate, coordinate), max_size=30))
def test_the_front_is_what_nothing_beats(points: list[tuple[float, float]]) -> None:
    def beaten(p: tuple[float, float]) -> bool:
        return any(q[0] >= p[0] and q[1] >= p[1] and q != p for q in points)

    front = pareto_front(points)
    assert sorted(front) == [i for i, p in enumerate(points) if not beaten(p)]
    assert [points[i][0] for i in front] == sorted(points[i][0] for i in front)
