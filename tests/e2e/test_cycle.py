"""A whole cycle on the simulated engine, through everything: API, scheduler, tasks, processes, store."""

from __future__ import annotations

import gzip
import json
import subprocess
from pathlib import Path

import pytest
from wideloop.results.records import Cycle

from tests.airflow_server import SMALL, AirflowServer
from tests.e2e.accounts import Sweep

pytestmark = pytest.mark.e2e


def cycle_of(airflow: AirflowServer, run_id: str) -> Cycle:
    with airflow.store() as store:
        return next(c for c in store.cycles() if c.dag_run_id == run_id)


def test_a_cycle_ends_in_a_recommendation_with_an_interval(airflow: AirflowServer, finished_cycle: str) -> None:
    cycle = cycle_of(airflow, finished_cycle)
    assert (cycle.state, cycle.simulated, cycle.dag_id) == ("success", True, "wideep_cycle")
    with airflow.store() as store:
        stages = {s.name: s.state for s in store.stages(cycle.cycle_id)}
        recommendation = store.recommendation(cycle.cycle_id)
        recordings = store.recordings(cycle.cycle_id)
    names = ["image", "weights", "baseline", "experts", "tune", "confirm", "recommend"]
    assert stages == dict.fromkeys(names, "success")
    assert recommendation is not None and recommendation.simulated and recommendation.slo_met
    # The default of this cycle decodes without CUDA graphs: whoever compares anything at all sees that.
    assert recommendation.verdict == "adopt"
    # Decided at the first look, or at the second where the machine is busy.
    assert recommendation.pairs in (3, 4) and recommendation.confidence == 0.95
    assert 0 < recommendation.gain_low < recommendation.gain < recommendation.gain_high
    assert {r.role for r in recordings} == {"prefill", "decode"}
    assert all(r.simulated and r.tokens > 0 and 0 < r.balancedness < r.balancedness_placed <= 1 for r in recordings)


def test_a_cycle_measures_each_thing_once_and_says_that_it_is_simulated(
    airflow: AirflowServer, finished_cycle: str
) -> None:
    sweep = Sweep.of(airflow, "wideep_cycle", finished_cycle)
    sweep.check(planned=3)
    assert all(m.simulated for m in sweep.measurements)
    with airflow.store() as store:
        recommendation = store.recommendation(sweep.cycle.cycle_id)
    assert recommendation is not None
    purposes = [m.purpose for m in sweep.measurements if m.purpose != "repeat"]
    assert {p: purposes.count(p) for p in set(purposes)} == {"baseline": 1, "trial": 2}
    (default,) = (t for t in sweep.trials if t.is_default)
    repeats = [(m.trial_number, m.repeat) for m in sweep.measurements if m.purpose == "repeat"]
    assert len(set(repeats)) == len(repeats)
    # A repeat that the machine made invalid is replaced by another one, so only pairs of valid ones count.
    valid = {(m.trial_number, m.repeat) for m in sweep.measurements if m.purpose == "repeat" and m.valid}
    pairs = [k for n, k in valid if n == default.number and (recommendation.trial_number, k) in valid]
    assert len(pairs) == recommendation.pairs


def test_a_cycle_runs_from_an_installed_wheel_without_a_clone(airflow: AirflowServer, finished_cycle: str) -> None:
    wheel = airflow.home.dags.parent
    assert wheel.parent.name == "site-packages"
    assert Path(airflow.get("/api/v2/dags/wideep_cycle")["fileloc"]).parent == wheel / "dags"
    program = "import wideloop; print(wideloop.__file__)"
    engine = airflow.settings.environments / "simulated" / "bin" / "python"
    for python in (airflow.home.python, engine):
        done = subprocess.run([python, "-c", program], cwd=wheel, capture_output=True, text=True, check=True)
        assert Path(done.stdout.strip()).resolve() == wheel / "__init__.py"


def test_a_cycle_leaves_nothing_running(airflow: AirflowServer, finished_cycle: str) -> None:
    assert airflow.left_behind() == []


@pytest.mark.parametrize(
    ("field", "value"),
    [("osl", 0), ("isl", "long"), ("concurrency", []), ("mem_fraction_static", 1.5), ("model", ""), ("trials", 2.5)],
)
def test_a_value_that_cannot_be_is_refused_at_the_door(airflow: AirflowServer, field: str, value: object) -> None:
    answer = airflow.post("/api/v2/dags/wideep_cycle/dagRuns", {"logical_date": None, "conf": {field: value}})
    assert answer.status_code in (400, 422)
    assert field in answer.text


@pytest.mark.parametrize(
    ("conf", "words"),
    [
        ({"redundant_experts": 3}, ["redundant_experts = 3", "must divide by EP 4", "Use 0 or 4"]),
        (
            {"model": "DeepSeek-R1", "hardware": "h100-8"},
            ["hardware = ", "weights take", "can be used", "16 such"],
        ),
    ],
)
def test_values_that_do_not_go_together_are_refused_before_anything_starts(
    airflow: AirflowServer, conf: dict[str, object], words: list[str]
) -> None:
    run = airflow.run("wideep_cycle", **SMALL | conf)
    airflow.wait("wideep_cycle", run, 60, expect="failed")
    log = airflow.log("wideep_cycle", run, "check_request")
    assert [word for word in words if word not in log] == []
    assert airflow.attempts("wideep_cycle", run, "check_request") == 1
    states = airflow.states("wideep_cycle", run)
    assert {t for t, s in states.items() if s == "failed"} == {"check_request", "close_cycle"}
    assert "success" not in states.values()
    assert airflow.left_behind() == []


def test_the_doctor_finds_nothing_wrong_with_the_airflow_that_ran_a_cycle(
    airflow: AirflowServer, finished_cycle: str
) -> None:
    done = subprocess.run(
        [airflow.home.python.parent / "wideloop", "doctor"],
        env=airflow.environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    lines = {line.split("|")[1].strip(): line.split("|")[2].strip() for line in done.stdout.splitlines() if "|" in line}
    for check in ("results database", "study database", "artefact store", "DAG bundle", "DAGs", "pool", "triggerer"):
        assert lines[check] == "ok", done.stdout


def test_every_deployment_of_a_cycle_leaves_its_logs_and_what_was_applied(
    airflow: AirflowServer, finished_cycle: str
) -> None:
    cycle = cycle_of(airflow, finished_cycle)
    with airflow.store() as store:
        trials = store.trials(cycle_id=cycle.cycle_id)
        measured = {m.deployment for m in store.measurements(cycle_id=cycle.cycle_id)}
    folder = Path(airflow.settings.artefacts_url.removeprefix("file://")) / "cycles" / cycle.cycle_id / "deployments"
    assert {t.deployment for t in trials} | measured <= {path.name for path in folder.iterdir()}
    for deployment in folder.iterdir():
        assert json.loads((deployment / "deployment.json").read_text())["fingerprint"]
        logs = [gzip.decompress(log.read_bytes()) for log in (deployment / "logs").glob("*.log.gz")]
        assert len(logs) > 2 and any(logs), deployment
