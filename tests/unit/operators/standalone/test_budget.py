from __future__ import annotations

import time

import pytest
from wideloop.operators.standalone.budget import Budget, OutOfTime


def test_without_a_budget_there_is_no_end():
    budget = Budget(None)
    with budget.unit("trial"):
        pass
    assert budget.left_s == float("inf")


def test_the_first_unit_needs_what_such_units_may_take():
    with pytest.raises(OutOfTime, match="a trial takes 90 s"), Budget(60).unit("trial"):
        pytest.fail("began although it could not fit")


def test_later_units_need_as_long_as_the_longest_before():
    budget = Budget(0.5, first_s=0.1)
    with budget.unit("trial"):
        time.sleep(0.3)
    with pytest.raises(OutOfTime, match=r"a trial takes 0 s"), budget.unit("trial"):
        pytest.fail("began although the last one took longer than what is left")
    with budget.unit("proof"):
        pass


def test_a_unit_that_fails_counts_for_nothing():
    budget = Budget(10, first_s=1)
    with pytest.raises(KeyError), budget.unit("trial"):
        raise KeyError
    with budget.unit("trial"):
        pass
