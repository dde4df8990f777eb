"""One real Airflow for all tests of DAGs on Kubernetes, set up by README's own commands.

README's example is rehearsed (:mod:`tests.cluster.rehearsal`): engine ``dynamo-sglang``, DeepSeek-R1. Airflow's only
way to a real API server is the account that README makes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from wideloop.manifests import profiles
from wideloop.manifests.kubernetes import dynamo, rbac
from wideloop.operators.settings import Settings

from tests.airflow_server import AirflowServer
from tests.cluster import nodes, quickstart
from tests.cluster.agent import NodeAgent, claims
from tests.cluster.cluster import Cluster
from tests.cluster.place import DIGEST, Place
from tests.cluster.quickstart import Shell
from tests.cluster.rehearsal.hub import model_hub
from tests.cluster.rehearsal.place import params, rehearsal_settings
from tests.tiny_hub import Hub

#: README's.
NAMESPACE = "wide-ep"
#: Nodes of these exist, each set once more for a second deployment.
PROFILES = {"h200-32": 2, "h200-16": 1, "gke-b200-32": 1}
#: Deployments of each side that ``wideep_experts`` compares; two are the fewest with an interval.
EXPERT_PAIRS = 2
#: Deployments that may be measured at once, each on hosts of its own.
ROOM = 2
#: The smallest of them, for tests of their own, and parameters of runs there.
PROFILE = "h200-16"
LOAD = params(PROFILE)
#: Runs beside README's own, at the same time: a deployment mostly waits.
RUNS = {
    "wideep_experts": LOAD,
    "wideep_benchmark": params("gke-b200-32"),
}
#: Not the engine's: what is known of an image is kept by its digest.
CLIENT_DIGEST = f"sha256:{'1' * 64}"
#: The beginning of a block of README that needs Airflow.
_NEEDS_AIRFLOW = "airflow "


@pytest.fixture(scope="session")
def hub(agent: NodeAgent) -> Iterator[Hub]:
    """The hub that holds DeepSeek-R1, as pods reach it."""
    with model_hub(agent.network.gateway) as hub:
        yield hub


@pytest.fixture(scope="session")
def shell(cluster: Cluster, agent: NodeAgent, hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """The shell of a reader of README, after all commands that need no Airflow; the cluster has the nodes."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / ".kube").mkdir()
    (folder / "bin").mkdir()
    (folder / "bin" / "kubectl").symlink_to(cluster.program)
    (folder / "bin" / "docker").write_text(_DOCKER)
    (folder / "bin" / "docker").chmod(0o755)
    cluster.apply([claims.storage_class("shared", default=False)])
    names = []
    for profile, sets in PROFILES.items():
        hardware = profiles.hardware(profile)
        hosts = hardware.model_copy(update={"nodes": sets * hardware.nodes})
        names += agent.add_nodes(list(nodes.gpu_nodes(hosts, f"airflow-{profile}")))
    reader = Shell(
        {name: value for name, value in os.environ.items() if not name.startswith(("WIDELOOP_", "AIRFLOW_"))}
        | {name: value for name, value in os.environ.items() if name == "WIDELOOP_HOME"}
        | {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "HOME": str(folder), "KUBECONFIG": str(cluster.kubeconfig)}
        | rehearsal_settings(hub.url)
    )
    for block in quickstart.blocks():
        if not block.startswith(_NEEDS_AIRFLOW):
            reader.run(block)
    yield reader
    agent.remove_nodes(names)
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")
    cluster.kubectl("delete", "storageclass", "shared")
    for document in rbac.documents(NAMESPACE, (), dynamo.grants()):
        if "namespace" not in document["metadata"]:
            cluster.kubectl("delete", document["kind"], document["metadata"]["name"])


#: There is no daemon here: what README gives to docker must at least be there.
_DOCKER = """#!/usr/bin/env python3
import pathlib, sys
if sys.argv[1] == "build":
    *_, file, context = sys.argv
    copied = [line.split()[1] for line in open(file) if line.startswith("COPY ")]
    assert copied and all((pathlib.Path(context) / name).is_file() for name in copied), copied
"""


@pytest.fixture(scope="session")
def home(cluster: Cluster, agent: NodeAgent, operator: object, shell: Shell) -> Place:
    """The namespace that README made; claims and model are the runs' own business.

    It is the Airflow's; this process's own settings do not name it.
    """
    return Place(cluster, agent, NAMESPACE)


@pytest.fixture(scope="session")
def airflow(home: Place, shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AirflowServer]:
    """Started in the reader's shell. No registry is reached from here, so both images are named with a digest too."""
    exported = {name: value for name, value in shell.variables.items() if name.startswith("WIDELOOP_CLUSTER__")}
    digests = {"WIDELOOP_CLUSTER__ENGINE_IMAGE": DIGEST, "WIDELOOP_CLUSTER__CLIENT_IMAGE": CLIENT_DIGEST}
    images = {name: f"{exported[name]}@{digest}" for name, digest in digests.items()}
    own = {"WIDELOOP_KUBECONFIG": shell.variables["WIDELOOP_KUBECONFIG"], "WIDELOOP_EXPERT_PAIRS": str(EXPERT_PAIRS)}
    server = AirflowServer(tmp_path_factory.mktemp("airflow"), Settings(), exported | images | own)
    try:
        server.start()
        shell.variables = server.home.environment(shell.variables)
        deploy, _ = airflow_blocks()
        shell.run(deploy)
        server.prepare(ROOM)
        yield server
    finally:
        server.stop()


def airflow_blocks() -> list[str]:
    """README's blocks that need Airflow: the first deployment, and the first cycle."""
    return [block for block in quickstart.blocks() if block.startswith(_NEEDS_AIRFLOW)]


@pytest.fixture(scope="session")
def ended(airflow: AirflowServer, home: Place, shell: Shell) -> dict[str, str]:
    """The ids of README's runs and of :data:`RUNS` by DAG; all have ended well, and what README deployed is gone."""
    runs = {dag: airflow.run(dag, **values) for dag, values in RUNS.items()}
    shell.run(airflow_blocks()[1])
    runs |= {"wideep_deploy": "first", "wideep_cycle": "first-cycle"}
    airflow.wait("wideep_deploy", "first", 900)
    (deployed,) = home.kubectl("get", "dynamographdeployments", "-o", "name").split("/deploy-")[1:]
    down = airflow.run("wideep_deploy", target="dynamo", action="down", deployment=f"deploy-{deployed.split()[0]}")
    for dag, run in [*runs.items(), ("wideep_deploy", down)]:
        airflow.wait(dag, run, 900)
    return runs
