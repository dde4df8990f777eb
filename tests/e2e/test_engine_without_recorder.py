"""An engine of another package that cannot record experts goes through a whole cycle on the simulated processes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from wideloop.operators.steps.cycle_plan import cycle_stages
from wideloop.results.store import Store

from tests.driver import drive, make_home

pytestmark = pytest.mark.e2e
#: As a package of its own would be installed, with the simulated engine's processes.
ENGINE = """
from pathlib import Path
from wideloop.tuning.simulator.engine import SimulatedEngine


class SilentEngine(SimulatedEngine):
    name = "silent"
    recorder = None

    def command(self, spec, component, site):
        command = super().command(spec, component, site)
        return command.model_copy(update={"env": {**command.env, "PYTHONPATH": str(Path(__file__).parent)}})
"""
REASON = "engine silent cannot record experts: no placement"
REQUEST = {
    "engine": "silent",
    "isl": 256,
    "osl": 32,
    "concurrency": [8],
    "requests_per_slot": 4,
    "warmup_requests": 2,
    "trials": 2,
    "repeats": 1,
    "max_redundant_slots": 1,
    "cuda_graph_max_bs": 1,
    "min_graph_bs": 1,
}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package")
    (folder / "silent_engine.py").write_text(ENGINE)
    metadata = folder / "silent_engine-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: silent-engine\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[wideloop.engines]\nsilent = silent_engine:SilentEngine\n")
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, package: Path) -> Path:
    folder = make_home(tmp_path_factory.mktemp("driver"), REQUEST)
    done = drive(folder, "--report", str(folder / "report"), python_path=package)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"stage placed is skipped: {REASON}" in done.stdout
    return folder


def test_its_cycle_ends_with_a_recommendation_and_a_report(home: Path) -> None:
    with Store.open(f"sqlite:///{home / 'results.db'}") as store:
        (cycle,) = store.cycles()
        recommendation = store.recommendation(cycle.cycle_id)
        stages = {stage.name: stage for stage in store.stages(cycle.cycle_id)}
        trials = store.trials(study=cycle.cycle_id)
        assert store.recordings(cycle.cycle_id) == []
    assert (cycle.engine, cycle.state) == ("silent", "success")
    assert recommendation is not None and recommendation.pairs <= 1
    assert {t.state for t in trials} <= {"complete", "infeasible"} and len(trials) == 2
    assert list(stages) == [s.name for s in cycle_stages(proves=True) if s.name != "request"]
    skipped = {name: stage.detail for name, stage in stages.items() if stage.state == "skipped"}
    assert skipped == dict.fromkeys(("experts", "placed", "proof"), REASON)
    assert {s.state for name, s in stages.items() if name not in skipped} == {"success"}
    report = json.loads((home / "report" / "report.json").read_text())
    assert report["proof"] == {} and report["recommendation"]["verdict"] == recommendation.verdict
    assert not any(c["knobs"]["placed"] for c in report["configurations"])


def test_its_finished_cycle_measures_nothing_again(home: Path, package: Path) -> None:
    before = (home / "report" / "loads.csv").read_text()
    again = drive(home, "--report", str(home / "report"), python_path=package)
    assert again.returncode == 0, again.stdout + again.stderr
    assert (home / "report" / "loads.csv").read_text() == before
