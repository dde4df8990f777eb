"""The order of work that both directors share."""

from __future__ import annotations

import pytest
from wideloop.operators.steps.cycle_plan import (
    MAX_FAILURES_IN_A_ROW,
    cycle_stages,
    experts_stages,
    has_too_many_failures,
    interleaved,
)


@pytest.mark.parametrize("stages", [cycle_stages(), cycle_stages(proves=True), experts_stages(1), experts_stages(4)])
def test_every_stage_comes_after_what_it_needs(stages) -> None:
    names = [stage.name for stage in stages]
    assert len(set(names)) == len(names)
    for place, stage in enumerate(stages):
        assert set(stage.needs) <= set(names[:place])
        assert (stage.deployment is not None) == (stage.work == "measure")


def test_linear_drift_cancels_in_interleaved_pairs() -> None:
    order = list(interleaved("ab", 4))
    assert order == [(0, "a"), (0, "b"), (1, "b"), (1, "a"), (2, "a"), (2, "b"), (3, "b"), (3, "a")]
    when = {item: [time for time, (_, other) in enumerate(order) if other == item] for item in "ab"}
    assert sum(when["a"]) == sum(when["b"])


def test_pairs_of_an_experts_run_are_interleaved_and_only_the_first_is_examined() -> None:
    measured = [stage for stage in experts_stages(3) if stage.deployment]
    assert [stage.name for stage in measured] == [
        "recorded", "placed", "placed-1", "in-order-1", "in-order-2", "placed-2",
    ]  # fmt: skip
    assert [stage.deployment.repeat for stage in measured] == [0, 0, 1, 1, 2, 2]
    assert [stage.name for stage in measured if stage.deployment.collect] == ["recorded", "placed"]
    assert all(stage.deployment.record for stage in measured), "the recorder costs both sides the same"


def test_a_sweep_stops_after_failures_in_a_row_only() -> None:
    assert not has_too_many_failures([True] * (MAX_FAILURES_IN_A_ROW - 1))
    assert has_too_many_failures([False, *[True] * MAX_FAILURES_IN_A_ROW])
    assert not has_too_many_failures([True, True, False, True, True])
