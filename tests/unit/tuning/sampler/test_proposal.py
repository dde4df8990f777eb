"""Which points a sweep tries."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pytest
from wideloop.tuning.sampler.cube import Cube
from wideloop.tuning.sampler.physics import Physics
from wideloop.tuning.sampler.proposal import PastTrial, Proposer
from wideloop.tuning.space import Point, SearchSpace

SPACE = SearchSpace()
MEMORY = "mem_fraction_static"


def left(point: Mapping[str, float]) -> float:
    """GiB left: the fraction and the graphs share a GPU of 80 GiB."""
    return 80 * (0.97 - point[MEMORY]) - 0.02 * point["cuda_graph_max_bs"]


def speed(point: Mapping[str, float]) -> float:
    return float(100 * (1 + point[MEMORY]) * point["cuda_graph_max_bs"] ** 0.3 / (1 + 0.1 * point["redundant_slots"]))


def sweep(trials: int, physics: Physics, lacking: float = 0.0, limit: float = 1e9) -> list[PastTrial]:
    past: list[PastTrial] = []
    for k in range(trials):
        point = Proposer(SPACE, past, seed=k, physics=physics).propose()
        if left(point) - lacking < 0:
            past.append(PastTrial(point, "out_of_memory"))
        else:
            value = speed(point)
            past.append(PastTrial(point, "measured", value, {"tpot_p99": value / limit - 1}))
    return past


def failures(past: list[PastTrial]) -> int:
    return sum(t.state == "out_of_memory" for t in past)


def test_every_point_lies_in_the_space_and_none_is_tried_twice() -> None:
    past = sweep(14, Physics(headroom_gib=left))
    assert all(SPACE.contains(t.point) for t in past)
    assert len({tuple(t.point.values()) for t in past}) == len(past)


def test_a_right_model_of_memory_costs_at_most_one_trial() -> None:
    past = sweep(16, Physics(headroom_gib=left))
    assert failures(past) <= 1
    assert max(t.value or 0 for t in past) > 0.95 * speed(
        {MEMORY: 0.91, "cuda_graph_max_bs": 256, "redundant_slots": 0}
    )


def test_a_model_that_is_8_gib_optimistic_is_corrected_after_a_trial_or_two() -> None:
    past = sweep(16, Physics(headroom_gib=left), lacking=8.0)
    assert failures(past) <= 2 and any(t.value for t in past[-3:])


def test_without_a_model_of_memory_its_limit_is_learned() -> None:
    past = sweep(16, Physics())
    assert failures(past) <= 4 and failures(past[-6:]) <= 1


def test_before_anything_meets_the_limits_the_search_goes_where_they_are_met() -> None:
    past = sweep(16, Physics(headroom_gib=left), limit=300.0)
    assert sum(t.violations.get("tpot_p99", 1) <= 0 for t in past[-6:]) >= 3


def test_a_space_that_is_used_up_still_gives_points() -> None:
    tiny = SearchSpace(redundant_slots=(0, 1))
    past = [PastTrial({"redundant_slots": k % 2}, "measured", 1.0 + k) for k in range(8)]
    assert tiny.contains(Proposer(tiny, past, seed=1).propose())


def test_points_where_the_model_expects_much_come_first() -> None:
    physics = Physics(headroom_gib=left, expected_value=speed)
    past = [
        PastTrial(p, "measured", speed(p), {})
        for p in ({MEMORY: 0.8, "cuda_graph_max_bs": b, "redundant_slots": 4} for b in (4, 6, 8, 10, 12))
    ]
    point = Proposer(SPACE, past, seed=1, physics=physics).propose()
    assert point["cuda_graph_max_bs"] > 100 and point["redundant_slots"] == 0


def test_a_refused_configuration_is_not_tried_again_and_teaches_nothing_about_memory() -> None:
    point: Point = {MEMORY: 0.81, "cuda_graph_max_bs": 8, "redundant_slots": 0}
    proposer = Proposer(SPACE, [PastTrial(point, "refused")], seed=1, physics=Physics(headroom_gib=left))
    assert proposer.fits([point])[0] > 0.9 and proposer.propose() != point


def test_a_value_and_its_place_on_the_scale_are_each_others_inverse() -> None:
    space = SearchSpace(**{**SPACE.model_dump(), "chunked_prefill_size": (4096, 8192, 16384)})
    cube = Cube(space)
    rows = cube.sobol(64, 0)
    points = cube.points(rows)
    assert all(space.contains(p) for p in points)
    assert cube.rows(points) == pytest.approx(rows, abs=1e-6)
    assert all(np.any(a != b) for a, b in pairwise(rows))
