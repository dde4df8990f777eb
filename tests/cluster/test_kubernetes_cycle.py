"""README's first cycle of DeepSeek-R1 through Kubernetes, with the real engine's manifests."""

from __future__ import annotations

import json

import pytest
from wideloop.manifests.kubernetes.options import ClusterOptions

from tests.airflow_server import AirflowServer
from tests.cluster.cluster import wait_for
from tests.cluster.place import DIGEST, Place
from tests.cluster.rehearsal.place import params

pytestmark = pytest.mark.cluster

STAGES = ["image", "weights", "baseline", "experts", "tune", "confirm", "recommend"]


@pytest.fixture
def finished(ended: dict[str, str]) -> str:
    return ended["wideep_cycle"]


def test_a_cycle_through_kubernetes_ends_in_a_recommendation(airflow: AirflowServer, finished: str) -> None:
    with airflow.store() as store:
        cycle = next(c for c in store.cycles() if c.dag_run_id == finished)
        stages = {s.name: s.state for s in store.stages(cycle.cycle_id)}
        found = store.recommendation(cycle.cycle_id)
        recordings = store.recordings(cycle.cycle_id)
        measurements = store.measurements(cycle_id=cycle.cycle_id)
    assert (cycle.state, cycle.target, cycle.engine) == ("success", "dynamo", "dynamo-sglang")
    assert cycle.simulated, "a rehearsal is no measurement"
    assert stages == dict.fromkeys(STAGES, "success")
    assert found is not None and found.simulated
    assert {r.role for r in recordings} == {"prefill", "decode"} and all(r.tokens > 0 for r in recordings)
    repeated = {"repeat"} if found.knobs != found.default_knobs else set()
    assert {m.purpose for m in measurements} == {"baseline", "trial"} | repeated
    assert all(m.image == DIGEST and m.simulated for m in measurements)
    # A trial that the machine was too busy to measure is made again; the others are what is compared.
    assert all(m.valid for m in measurements if m.purpose != "trial")


def test_a_cycle_leaves_claims_and_nothing_else(home: Place, finished: str) -> None:
    assert home.left() == []
    claims = json.loads(home.kubectl("get", "pvc", "-o", "json"))["items"]
    assert sorted(c["metadata"]["name"] for c in claims) == sorted(
        [ClusterOptions().files_claim, ClusterOptions().model_claim]
    )


def test_an_engine_that_dies_in_mid_cycle_leaves_nothing(airflow: AirflowServer, home: Place, finished: str) -> None:
    run = airflow.run("wideep_benchmark", **params("h200-16", requests_per_slot=12))
    (pod,) = wait_for(lambda: home.pods(component="decode"), 120, "a decode worker")
    deployment = pod["metadata"]["labels"]["wideloop/deployment"]
    wait_for(lambda: home.pods(deployment=deployment) and _measuring(home, deployment), 180, "a load generator")
    home.agent.kill(home.namespace, pod["metadata"]["name"], out_of_memory=True)
    airflow.wait("wideep_benchmark", run, 240, expect="failed")
    assert "OOMKilled" in airflow.failures("wideep_benchmark", run)
    assert home.left() == []


def _measuring(home: Place, deployment: str) -> bool:
    pods = home.pods(deployment=deployment)
    clients = [p for p in pods if "wideloop/client" in p["metadata"]["labels"]]
    return any(p["status"]["phase"] == "Running" for p in clients)
