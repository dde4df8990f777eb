"""The end of a cycle on its page, and the timeline that leads to it."""

from __future__ import annotations

from pathlib import Path

import pytest
from wideloop.operators.steps.close import CycleFailed, close
from wideloop.operators.steps.run import Run, begin_stage, end_stage, open_store, stage
from wideloop.results.records import Stage

from tests.unit.operators.steps.measured import CYCLE


def stages() -> dict[str, Stage]:
    with open_store() as store:
        return {s.name: s for s in store.stages(CYCLE.cycle_id)}


def state() -> str:
    with open_store() as store:
        cycle = store.cycle(CYCLE.cycle_id)
    assert cycle is not None and cycle.ended_at is not None
    return cycle.state


def test_a_cycle_in_which_nothing_failed_ends_well(cycle: Path) -> None:
    with stage(CYCLE, "image"):
        pass
    begin_stage(CYCLE, "recommend")
    close(CYCLE, [])
    assert state() == "success"
    assert {s.state for s in stages().values()} == {"success"}


def test_one_in_which_a_task_failed_ends_red_and_says_where_and_why(cycle: Path) -> None:
    with stage(CYCLE, "image"):
        pass
    with pytest.raises(OSError, match="disk full"), stage(CYCLE, "weights"):
        raise OSError("disk full")
    begin_stage(CYCLE, "baseline")
    with pytest.raises(CycleFailed, match=r"weights, tune.*weights: disk full"):
        close(CYCLE, ["weights", "tune"])
    assert state() == "failed"
    assert {n: s.state for n, s in stages().items()} == {"image": "success", "weights": "failed", "baseline": "failed"}
    assert all(s.ended_at is not None for s in stages().values())


def test_closing_again_says_the_same(cycle: Path) -> None:
    for _ in range(2):
        with pytest.raises(CycleFailed):
            close(CYCLE, ["weights"])
    assert state() == "failed"


def test_a_run_that_was_refused_before_it_had_a_page_ends_red(cycle: Path) -> None:
    with pytest.raises(CycleFailed, match="plan"):
        close(Run(dag_id="wideep_cycle", run_id="refused"), ["plan"])


def test_a_stage_of_several_tasks_begins_with_the_first_and_ends_with_the_last(cycle: Path) -> None:
    with stage(CYCLE, "tune", ends=False):
        pass
    began = stages()["tune"].started_at
    assert stages()["tune"].state == "running"
    with stage(CYCLE, "tune"):
        pass
    assert (stages()["tune"].state, stages()["tune"].started_at) == ("success", began)


def test_a_stage_that_was_tried_again_is_not_left_failed(cycle: Path) -> None:
    with pytest.raises(RuntimeError), stage(CYCLE, "tune"):
        raise RuntimeError
    assert stages()["tune"].detail == "RuntimeError"
    with stage(CYCLE, "tune"):
        pass
    assert (stages()["tune"].state, stages()["tune"].detail) == ("success", "")


def test_a_stage_that_never_began_is_not_invented(cycle: Path) -> None:
    end_stage(CYCLE, "deploy", "success")
    assert stages() == {}
