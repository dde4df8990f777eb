"""The whole cycle through Kubernetes: a real Airflow whose only way to a real API server is the account of ours."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator

import pytest

from manifests import profiles
from manifests.kubernetes import rbac
from manifests.kubernetes.options import ClusterOptions
from operators.settings import Settings
from tests.airflow_server import SMALL, AirflowServer
from tests.cluster import nodes
from tests.cluster.agent import NodeAgent
from tests.cluster.cluster import Cluster, wait_for
from tests.cluster.place import DIGEST, Place, use

pytestmark = pytest.mark.cluster

PROFILE = "h100-8"
CYCLE = SMALL | {
    "target": "dynamo",
    "hardware": PROFILE,
    "trials": 2,
    "repeats": 1,
    "osl": 20,
    # The default decodes without a fitting CUDA graph, so that there is something to find.
    "cuda_graph_max_bs": 1,
    "min_graph_bs": 1,
    "slo_tpot_p99_ms": 2000,
}
STAGES = ["image", "weights", "baseline", "experts", "tune", "confirm", "recommend"]


@pytest.fixture(scope="module")
def project() -> Settings:
    """Where the environments are; read before this process is pointed elsewhere."""
    return Settings()


@pytest.fixture(scope="module")
def home(
    project: Settings,
    cluster: Cluster,
    agent: NodeAgent,
    operator: object,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Place]:
    """A namespace with nodes and our account, and nothing else: claims and model are the cycle's own business."""
    namespace = f"cycle-{secrets.token_hex(3)}"
    folder = tmp_path_factory.mktemp("cycle")
    cluster.kubectl("create", "namespace", namespace)
    account = rbac.documents(namespace, ())
    cluster.apply(account)
    documents = list(nodes.gpu_nodes(profiles.hardware(PROFILE), namespace))
    names = agent.add_nodes(documents)
    kubeconfig = cluster.account_kubeconfig(namespace, rbac.NAME, folder / "account")
    with pytest.MonkeyPatch.context() as patch:
        use(patch, kubeconfig, namespace, folder / "home")
        patch.setenv("WIDELOOP_CLUSTER__ENGINE_IMAGE", f"example.com/simulated:1.6.1@{DIGEST}")
        patch.setenv("WIDELOOP_CLUSTER__CLIENT_IMAGE", f"example.com/benchmark:1@{DIGEST}")
        yield Place(cluster, agent, namespace)
    agent.remove_nodes(names)
    cluster.kubectl("delete", "namespace", namespace, "--wait=false")
    for document in account:
        if "namespace" not in document["metadata"]:
            cluster.kubectl("delete", document["kind"], document["metadata"]["name"])


@pytest.fixture(scope="module")
def airflow(project: Settings, home: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AirflowServer]:
    server = AirflowServer(tmp_path_factory.mktemp("airflow"), project)
    try:
        server.start()
        server.prepare()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def finished(airflow: AirflowServer) -> str:
    run = airflow.run("wideep_cycle", **CYCLE)
    airflow.wait("wideep_cycle", run, 900)
    return run


def test_a_cycle_through_kubernetes_ends_in_a_recommendation(airflow: AirflowServer, finished: str) -> None:
    with airflow.store() as store:
        cycle = next(c for c in store.cycles() if c.dag_run_id == finished)
        stages = {s.name: s.state for s in store.stages(cycle.cycle_id)}
        found = store.recommendation(cycle.cycle_id)
        recordings = store.recordings(cycle.cycle_id)
        measurements = store.measurements(cycle_id=cycle.cycle_id)
    assert (cycle.state, cycle.target, cycle.simulated) == ("success", "dynamo", True)
    assert stages == dict.fromkeys(STAGES, "success")
    assert found is not None and found.simulated
    assert {r.role for r in recordings} == {"prefill", "decode"} and all(r.tokens > 0 for r in recordings)
    assert {m.purpose for m in measurements} == {"baseline", "trial", "repeat"}
    assert all(m.image == DIGEST and m.valid for m in measurements)


def test_a_cycle_leaves_claims_and_nothing_else(home: Place, finished: str) -> None:
    assert home.left() == []
    claims = json.loads(home.kubectl("get", "pvc", "-o", "json"))["items"]
    assert sorted(c["metadata"]["name"] for c in claims) == sorted(
        [ClusterOptions().files_claim, ClusterOptions().model_claim]
    )


def test_an_engine_that_dies_in_mid_cycle_leaves_nothing(airflow: AirflowServer, home: Place, finished: str) -> None:
    run = airflow.run("wideep_benchmark", **CYCLE | {"requests_per_slot": 400})
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
