"""The driver without Airflow on the simulated engine: interrupted by its budget, it continues and ends in a report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from wideloop.operators.steps.cycle_plan import cycle_stages
from wideloop.operators.targets.local.process import marked
from wideloop.results.store import Store

from tests.driver import drive, make_home

pytestmark = pytest.mark.e2e
REQUEST = {
    "isl": 256,
    "osl": 32,
    "concurrency": [8],
    "requests_per_slot": 4,
    "warmup_requests": 2,
    "trials": 5,
    "repeats": 1,
    "max_redundant_slots": 2,
    "max_mem_fraction": 0.99,
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_home(tmp_path_factory.mktemp("driver"), REQUEST)


def test_a_driver_that_ran_out_of_time_goes_on_to_the_end(home: Path):
    # Enough for nothing but the preparation: a baseline may take 90 s.
    first = drive(home, "--budget", "60")
    assert first.returncode == 75, first.stderr
    assert "run the same command again" in first.stdout
    second = drive(home, "--report", str(home / "report"))
    assert second.returncode == 0, second.stdout + second.stderr
    assert "the placement is in effect" in second.stdout
    with Store.open(f"sqlite:///{home / 'results.db'}") as store:
        (cycle,) = store.cycles()
        trials = store.trials(study=cycle.cycle_id)
        repeats = store.measurements(cycle_id=cycle.cycle_id, purpose="repeat")
        assert store.recommendation(cycle.cycle_id) is not None
        stages = sorted(store.stages(cycle.cycle_id), key=lambda stage: stage.started_at)
    # The order that the DAG draws, too; judging the request is no stage of the timeline.
    assert [s.name for s in stages] == [s.name for s in cycle_stages(proves=True) if s.name != "request"]
    assert (cycle.state, cycle.simulated) == ("success", True)
    assert len([t for t in trials if t.state in ("complete", "infeasible")]) == 5
    assert any(t.state == "infeasible" for t in trials)
    # A repeat that a busy machine spoils breaks its pair, and brings another round.
    spoiled = {(m.trial_number, m.repeat) for m in repeats if not m.valid}
    assert {m.repeat for m in repeats} == set(range(1 + min(len(spoiled), 4)))
    report = json.loads((home / "report" / "report.json").read_text())
    assert report["simulated"] and "SIMULATED" in (home / "report" / "report.md").read_text()
    assert {c["name"] for c in report["configurations"]} >= {"default", "placement only"}
    assert report["cost"]["ours_per_deployment_s_median"] < 5


def test_a_finished_cycle_measures_nothing_again(home: Path):
    before = (home / "report" / "loads.csv").read_text()
    again = drive(home, "--report", str(home / "report"))
    assert again.returncode == 0, again.stdout + again.stderr
    assert (home / "report" / "loads.csv").read_text() == before


def test_a_driver_leaves_nothing_running(home: Path):
    assert [mark for _, mark in marked(home)] == []


def test_a_request_that_cannot_work_is_refused_before_anything_starts(home: Path):
    (home / "wrong.json").write_text(json.dumps({**REQUEST, "engine": "sglang", "hardware": "h200-16"}))
    command = [sys.executable, "-m", "wideloop.operators.standalone", str(home / "wrong.json"), "--run", "two"]
    environ = {**os.environ, "WIDELOOP_HOME": str(home)}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    assert "a profile of one node" in done.stderr
