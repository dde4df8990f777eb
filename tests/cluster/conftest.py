"""A real Kubernetes API server for tests, with nodes that run pods as processes of this machine."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import which
from typing import Any, NoReturn

import pytest
from wideloop.manifests import profiles
from wideloop.operators.targets.kubernetes import job_run

from tests.cluster import local, nodes
from tests.cluster.agent import CannotRun, NodeAgent, network
from tests.cluster.airflow_place import airflow, ended, home, hub, shell  # noqa: F401 - fixtures
from tests.cluster.binaries import NotHere, find
from tests.cluster.cluster import Cluster, wait_for
from tests.cluster.control_plane import ControlPlane
from tests.cluster.dynamo_operator import DynamoOperator
from tests.cluster.place import model  # noqa: F401 - a fixture


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
    cluster = Cluster(plane.kubeconfig, str(binaries["kubectl"]), plane)
    try:
        plane.start(lambda: local.prepare(cluster))
        yield cluster
    finally:
        plane.stop()
    assert plane.pids() == {}


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
        agent = local.node_agent(cluster, cluster.own, tmp_path_factory.mktemp("agent"))
    except CannotRun as error:
        unavailable(f"no pods here: {error}")
    agent.start()
    parsers = local.rehearsal_image(agent, tmp_path_factory.mktemp("rehearsal") / "sglang-runtime")
    yield agent
    parsers.stop()
    agent.stop()
    assert network.left_behind(os.getpid()) == []


@pytest.fixture(scope="session")
def operator(cluster: Cluster) -> Iterator[DynamoOperator | None]:
    """A stand-in for Dynamo's operator; none in an existing cluster, which has the operator itself."""
    if cluster.own is None:
        yield None
        return
    found = local.dynamo_operator(cluster.own)
    found.start()
    yield found
    found.stop()


@pytest.fixture(autouse=True)
def hurried_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ended Jobs of tasks go after two seconds: who follows one in these tests looks at it every second."""
    monkeypatch.setattr(job_run, "KEPT_S", 2)


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
