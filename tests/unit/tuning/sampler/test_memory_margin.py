"""How far the memory model is trusted, after trials that agreed with it and trials that did not."""

from __future__ import annotations

import numpy as np
import pytest
from wideloop.tuning.sampler.memory_margin import MemoryMargin, MemoryTrial

CENTRE = np.array([0.5, 0.5])


def fits(predicted: float, *trials: MemoryTrial) -> float:
    return float(MemoryMargin(trials, 2).fits(CENTRE[None, :], np.array([predicted]))[0])


def ran(predicted: float, left: float | None = None) -> MemoryTrial:
    return MemoryTrial(CENTRE, predicted, fits=True, amount=left)


def failed(predicted: float, missing: float | None = None) -> MemoryTrial:
    return MemoryTrial(CENTRE, predicted, fits=False, amount=missing)


def test_before_any_trial_the_model_is_trusted_gigabytes_from_its_limit() -> None:
    assert fits(-10.0) < 0.15 < fits(0.0) < 0.85 < fits(4.0)


def test_a_point_that_is_38_gib_short_has_no_chance_whatever_has_run() -> None:
    assert fits(-38.0, ran(0.5), ran(1.0)) < 0.001


def test_trials_that_ran_close_to_the_limit_let_the_next_one_go_closer() -> None:
    assert fits(1.0) < fits(1.0, ran(1.2)) and fits(1.0, ran(1.2)) > 0.9


def test_after_one_failure_of_an_optimistic_model_gigabytes_are_kept() -> None:
    assert fits(2.0, ran(10.0), failed(3.0)) < 0.1
    assert fits(9.0, ran(10.0), failed(3.0)) > 0.7


@pytest.mark.parametrize("missing", [1.0, 5.0])
def test_what_was_missing_moves_the_limit_by_at_least_as_much(missing: float) -> None:
    assert fits(2.0 + missing, failed(2.0, missing)) < 0.6
    assert fits(2.0 + missing, failed(2.0, missing)) < fits(2.0 + missing, failed(2.0))


def test_measured_memory_corrects_the_model_without_any_failure() -> None:
    assert fits(5.0, ran(10.0, left=2.0)) < 0.1
    assert fits(-3.0, ran(2.0, left=6.5)) > 0.9


def test_an_error_in_one_corner_counts_less_in_the_opposite_one() -> None:
    corner = MemoryTrial(np.array([1.0, 1.0]), 3.0, fits=False, amount=3.0)
    opposite = MemoryTrial(np.array([0.0, 0.0]), 3.0, fits=True, amount=3.0)
    margin = MemoryMargin([corner, opposite], 2)
    near, far = margin.fits(np.array([[0.9, 0.9], [0.1, 0.1]]), np.array([2.0, 2.0]))
    assert near < 0.2 and far > 0.8
