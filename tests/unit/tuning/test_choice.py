"""Which of the measured configurations is recommended."""

from __future__ import annotations

from wideloop.tuning.choice import ranking
from wideloop.tuning.sampler.physics import UNKNOWN
from wideloop.tuning.sampler.proposal import PastTrial
from wideloop.tuning.space import SearchSpace
from wideloop.tuning.study import Result

SPACE = SearchSpace(mem_fraction_static=(0.6, 0.98))


def ranked(values: list[tuple[float, float, float]]) -> list[int]:
    """Order of trials that are given as (memory fraction, value, TPOT / limit)."""
    results = [
        Result(number=k, point={"mem_fraction_static": x}, outcome="measured", value=v, constraints={"tpot_p99": t - 1})
        for k, (x, v, t) in enumerate(values)
    ]
    past = [PastTrial(r.point, "measured", r.value, r.constraints) for r in results]
    return [r.number for group in ranking(results, SPACE, past, UNKNOWN) for r in group]


def test_few_results_are_ordered_by_value() -> None:
    assert ranked([(0.7, 100, 0.5), (0.8, 120, 0.5), (0.9, 110, 0.5)]) == [1, 2, 0]


def test_what_missed_a_limit_is_never_recommended() -> None:
    assert 3 not in ranked([(0.65, 100, 0.5), (0.7, 101, 0.5), (0.8, 102, 0.6), (0.9, 500, 1.1), (0.95, 103, 0.7)])


def test_a_lucky_measurement_between_ordinary_ones_does_not_win() -> None:
    plain = [(0.60 + 0.02 * k, 100 + 2.0 * k, 0.5) for k in range(18)]
    plain[3] = (plain[3][0], 150.0, 0.5)
    assert ranked(plain)[0] > 12


def test_a_latency_that_met_its_limit_by_luck_gives_way_to_a_safe_one() -> None:
    points = [(0.60 + 0.02 * k, 100 + 0.2 * k, 0.80 + 0.014 * k) for k in range(17)]
    points[16] = (points[16][0], points[16][1], 0.99)
    best = ranked(points)[0]
    assert points[best][2] < 0.99
