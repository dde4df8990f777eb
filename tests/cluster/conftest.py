"""A real Kubernetes API server for tests, with nodes that run pods as processes of this machine."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import which
from typing import Any, NoReturn

import pytest

from manifests import profiles
from operators.settings import Settings
from tests.cluster import dynamo_crd, nodes
from tests.cluster.agent import CannotRun, NodeAgent, claims
from tests.cluster.binaries import NotHere, find
from tests.cluster.cluster import Cluster, wait_for
from tests.cluster.control_plane import ControlPlane


def unavailable(reason: str) -> NoReturn:
    """Skip with the reason; in CI a failure, since there everything can be had."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """``USE_EXISTING_CLUSTER=true`` with ``KUBECONFIG``, else a control plane of this session's own."""
    if os.environ.get("USE_EXISTING_CLUSTER", "").lower() == "true":
        path = os.environ.get("KUBECONFIG")
        if not path or not (kubectl := which("kubectl")):
            unavailable("USE_EXISTING_CLUSTER=true needs KUBECONFIG and kubectl on PATH")
        yield Cluster(Path(path), kubectl)
        return
    try:
        binaries = find()
    except NotHere as error:
        unavailable(f"no control plane: {error}")
    plane = ControlPlane(binaries, tmp_path_factory.mktemp("controlplane"))
    try:
        plane.start()
        yield prepare(Cluster(plane.kubeconfig, str(binaries["kubectl"]), plane))
    finally:
        plane.stop()
    assert plane.pids() == {}


def prepare(cluster: Cluster) -> Cluster:
    """Definitions of our resources, and a class for claims, in a cluster that is new."""
    crds = os.environ.get("DYNAMO_CRDS")
    if crds:
        cluster.kubectl("apply", "--server-side", "-f", crds)
    else:
        openapi = json.loads(cluster.kubectl("get", "--raw", dynamo_crd.OPENAPI))
        cluster.apply([dynamo_crd.definition(openapi)])
    cluster.apply([claims.storage_class("folders", default=True)])
    resource = f"{dynamo_crd.PLURAL}.v1beta1.{dynamo_crd.GROUP}"
    wait_for(lambda: _served(cluster, resource), 30, f"{resource} is served")
    return cluster


def _served(cluster: Cluster, resource: str) -> bool:
    status = json.loads(cluster.kubectl("get", "crd", f"{dynamo_crd.PLURAL}.{dynamo_crd.GROUP}", "-o", "json"))[
        "status"
    ]
    established = {one["type"]: one["status"] for one in status.get("conditions", ())}.get("Established")
    return established == "True" and bool(cluster.kubectl("get", resource, "--ignore-not-found", "-o", "name") or True)


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace of the test's own, with its service account; its deletion is not waited for."""
    name = f"test-{secrets.token_hex(4)}"
    cluster.kubectl("create", "namespace", name)
    account = ("get", "serviceaccount", "default", "--namespace", name, "--ignore-not-found", "-o", "name")
    wait_for(lambda: cluster.kubectl(*account), what=f"service account of namespace {name}")
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def agent(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeAgent]:
    """What runs pods; it has no nodes yet. Images whose names contain simulated, benchmark or python can be pulled."""
    if cluster.own is None:
        unavailable("pods of the tests run on nodes of the tests, not on those of an existing cluster")
    try:
        agent = local_agent(cluster, cluster.own, tmp_path_factory.mktemp("agent"))
    except CannotRun as error:
        unavailable(f"no pods here: {error}")
    agent.start()
    yield agent
    agent.stop()


def local_agent(cluster: Cluster, plane: ControlPlane, folder: Path) -> NodeAgent:
    """An agent whose images are this project's environments."""
    environments = Settings().environments
    images: dict[str, Path | None] = {
        "simulated": environments / "simulated" / "bin",
        "benchmark": environments / "benchmark" / "bin",
        "python": None,
    }
    certificates = plane.ca.parent
    return NodeAgent(cluster.kubeconfig, folder, images, plane.ca, certificates / "apiserver.key")


@pytest.fixture
def add_nodes(agent: NodeAgent) -> Iterator[Callable[[str], list[str]]]:
    """``add_nodes("h200-16")``: the hosts of a hardware profile, removed after the test; their names."""
    added: list[str] = []

    def add(profile: str, **labels: Any) -> list[str]:
        documents = list(nodes.gpu_nodes(profiles.hardware(profile), f"{profile}-{secrets.token_hex(2)}"))
        for document in documents:
            document["metadata"]["labels"] |= labels
        added.extend(agent.add_nodes(documents))
        return added

    yield add
    agent.remove_nodes(added)
