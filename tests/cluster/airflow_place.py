"""One real Airflow for all tests of DAGs on Kubernetes: its only way to a real API server is the account of ours."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest
from wideloop.manifests import profiles
from wideloop.manifests.kubernetes import dynamo, rbac
from wideloop.operators.settings import Settings

from tests.airflow_server import SMALL, AirflowServer
from tests.cluster import nodes
from tests.cluster.agent import NodeAgent
from tests.cluster.cluster import Cluster
from tests.cluster.place import Place, environment

PROFILE = "h100-8"
#: Deployments of each side that ``wideep_experts`` compares; two are the fewest with an interval.
EXPERT_PAIRS = 2
#: Deployments that may be measured at once, each on hosts of its own.
ROOM = 2
#: A load that every DAG takes; the default decodes without a fitting CUDA graph, so that there is something to find.
LOAD = SMALL | {
    "target": "dynamo",
    "hardware": PROFILE,
    "osl": 20,
    "cuda_graph_max_bs": 1,
    "min_graph_bs": 1,
    "slo_tpot_p99_ms": 2000,
}
#: Runs that end well, at the same time: a deployment mostly waits. The recorded placement alone may or may not be
#: better than the default, so one more trial is needed for a best configuration that is another.
RUNS = {
    "wideep_cycle": LOAD | {"trials": 3, "repeats": 1},
    "wideep_experts": {name: value for name, value in LOAD.items() if name not in ("trials", "repeats")},
}


@pytest.fixture(scope="session")
def home(cluster: Cluster, agent: NodeAgent, operator: object) -> Iterator[Place]:
    """A namespace with nodes and our account, and nothing else: claims and model are the runs' own business.

    It is the Airflow's; this process's own settings do not name it.
    """
    namespace = f"cycle-{secrets.token_hex(3)}"
    cluster.kubectl("create", "namespace", namespace)
    account = rbac.documents(namespace, (), dynamo.grants())
    cluster.apply(account)
    hosts = profiles.hardware(PROFILE)
    names = agent.add_nodes(list(nodes.gpu_nodes(hosts.model_copy(update={"nodes": ROOM * hosts.nodes}), namespace)))
    yield Place(cluster, agent, namespace)
    agent.remove_nodes(names)
    cluster.kubectl("delete", "namespace", namespace, "--wait=false")
    for document in account:
        if "namespace" not in document["metadata"]:
            cluster.kubectl("delete", document["kind"], document["metadata"]["name"])


@pytest.fixture(scope="session")
def airflow(home: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AirflowServer]:
    """Every DAG can be triggered, with ``LOAD`` for its parameters. A test leaves nothing but claims and a model."""
    folder = tmp_path_factory.mktemp("airflow")
    kubeconfig = home.cluster.account_kubeconfig(home.namespace, rbac.NAME, folder / "account")
    known = environment(kubeconfig, home.namespace, by_digest=True) | {"WIDELOOP_EXPERT_PAIRS": str(EXPERT_PAIRS)}
    server = AirflowServer(folder, Settings(), known)
    try:
        server.start()
        server.prepare(ROOM)
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def ended(airflow: AirflowServer) -> dict[str, str]:
    """The ids of :data:`RUNS` by DAG; all have ended well."""
    runs = {dag: airflow.run(dag, **params) for dag, params in RUNS.items()}
    for dag, run in runs.items():
        airflow.wait(dag, run, 900)
    return runs
