"""The DAGs for one part of a cycle each, and the janitor."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from wideloop.manifests.deployment import DeploymentSpec
from wideloop.operators.request import DEFAULTS, Request
from wideloop.operators.targets.base import Owner
from wideloop.operators.targets.local.target import LocalTarget

from tests.airflow_server import SMALL, AirflowServer

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("dag_id", ["wideep_image", "wideep_weights"])
def test_image_and_weights_are_verified_by_themselves(airflow: AirflowServer, dag_id: str) -> None:
    run = airflow.run(dag_id)
    airflow.wait(dag_id, run, 120)
    kind = dag_id.removeprefix("wideep_")
    key = f"local/{DEFAULTS['engine' if kind == 'image' else 'model']}"
    with airflow.store() as store:
        asset = store.asset(kind, key)
    assert asset is not None
    assert asset.value.startswith("sha256:") if kind == "image" else asset.value.startswith("/")


def test_a_deployment_can_be_kept_measured_and_taken_down(airflow: AirflowServer) -> None:
    up = airflow.run("wideep_deploy", keep_hours=1)
    airflow.wait("wideep_deploy", up, 120)
    (kept,) = airflow.target.list_owned()
    assert kept.owner is not None and kept.owner.keep_until is not None
    left = kept.owner.keep_until - datetime.now(UTC)
    assert timedelta(minutes=50) < left <= timedelta(hours=1)
    airflow.wait("wideep_janitor", airflow.run("wideep_janitor"), 60)
    assert airflow.target.status(kept.name).state == "ready"

    run = airflow.run("wideep_benchmark", **_load(), deployment=kept.name)
    airflow.wait("wideep_benchmark", run, 120)
    with airflow.store() as store:
        cycle = next(c for c in store.cycles() if c.dag_run_id == run)
        (measured,) = store.measurements(cycle_id=cycle.cycle_id)
    assert measured.simulated and measured.valid
    assert airflow.target.status(kept.name).state == "ready", "a benchmark does not take what it was lent"

    down = airflow.run("wideep_deploy", action="down", deployment=kept.name)
    airflow.wait("wideep_deploy", down, 60)
    assert airflow.left_behind() == []


def test_the_janitor_removes_what_no_live_run_owns(airflow: AirflowServer, finished_cycle: str) -> None:
    over = Owner(dag_id="wideep_cycle", run_id=finished_cycle)
    kept_too_long = over.model_copy(update={"keep_until": datetime.now(UTC) - timedelta(seconds=1)})
    lost = Owner(dag_id="wideep_cycle", run_id="no such run")
    roomy = LocalTarget(airflow.settings.model_copy(update={"local_deployments": 3}))
    for name, owner in (("over", over), ("late", kept_too_long), ("lost", lost)):
        roomy.apply(_spec(airflow, name), owner)
    run = airflow.run("wideep_janitor")
    airflow.wait("wideep_janitor", run, 120)
    assert airflow.left_behind() == []


def test_a_run_waits_while_another_deployment_holds_the_accelerators(
    airflow: AirflowServer, finished_cycle: str
) -> None:
    airflow.target.apply(_spec(airflow, "over"), Owner(dag_id="wideep_cycle", run_id=finished_cycle))
    run = airflow.run("wideep_trial", **SMALL)
    airflow.until(
        lambda: airflow.states("wideep_trial", run).get("apply_deployment") == "up_for_reschedule",
        60,
        "the wait for room",
    )
    assert [o.name for o in airflow.target.list_owned()] == ["over"]
    airflow.wait("wideep_janitor", airflow.run("wideep_janitor"), 60)
    airflow.wait("wideep_trial", run, 120)
    assert airflow.attempts("wideep_trial", run, "apply_deployment") == 1, "waiting costs no retry"
    with airflow.store() as store:
        (trial,) = [t for t in store.trials() if t.dag_run_id == run]
    assert trial.state == "complete" and trial.is_default, "the first trial by hand is the form's configuration"
    assert airflow.left_behind() == []


def test_experts_are_placed_by_what_was_recorded(airflow: AirflowServer) -> None:
    run = airflow.run("wideep_experts", **_load())
    airflow.wait("wideep_experts", run, 480)
    with airflow.store() as store:
        cycle = next(c for c in store.cycles() if c.dag_run_id == run)
        measurements = store.measurements(cycle_id=cycle.cycle_id)
        recordings = store.recordings(cycle.cycle_id)
    assert sorted((m.label, m.repeat) for m in measurements) == [("in order", 0), ("placed", 0)]
    measured = {m.label: m for m in measurements}
    assert measured["placed"].spec_fingerprint != measured["in order"].spec_fingerprint
    assert {r.role for r in recordings} == {"prefill", "decode"}
    assert cycle.state == "success"
    assert airflow.left_behind() == []


def _load() -> dict[str, object]:
    return {k: v for k, v in SMALL.items() if k not in ("trials", "repeats")}


def _spec(airflow: AirflowServer, name: str) -> DeploymentSpec:
    with airflow.store() as store:
        model_path = store.asset("weights", f"local/{DEFAULTS['model']}").value
    return Request.from_params({}).spec(name, "sha256:any", model_path)
