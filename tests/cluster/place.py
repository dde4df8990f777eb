"""A namespace ready for deployments of the simulated engine: nodes, claims, a model, and the target that uses it."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.engines import get_engine
from wideloop.manifests.kubernetes.labels import selector
from wideloop.manifests.kubernetes.model_cache import files_claim, model_claim
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.manifests.workload import Workload
from wideloop.operators.request import Request
from wideloop.operators.settings import settings
from wideloop.operators.steps.benchmark import Subject
from wideloop.operators.targets import open_target
from wideloop.operators.targets.base import Owner
from wideloop.operators.targets.dynamo import DynamoTarget
from wideloop.operators.targets.kubernetes.api import Api
from wideloop.operators.targets.kubernetes.weights import prepare_weights

from tests.airflow_server import SMALL
from tests.cluster import nodes
from tests.cluster.agent import NodeAgent
from tests.cluster.cluster import Cluster, wait_for

#: A digest: what is pulled by it here is an environment of this machine.
DIGEST = f"sha256:{'0' * 64}"
OWNER = Owner(dag_id="wideep_deploy", run_id="manual__2026-11-22T05:00:00+00:00")
PARAMS = SMALL | {"target": "dynamo", "hardware": "h100-8"}
#: Everything of ours but what is meant to stay: the claims, and what is remembered of images.
_KINDS = "dynamographdeployments,pods,jobs,configmaps,services"
_STAYS = "configmap/wideloop-images"
START_S = 60


class Place:
    """One namespace.

    Attributes:
        target: as the steps and tasks of this process find it.
    """

    def __init__(self, cluster: Cluster, agent: NodeAgent, namespace: str) -> None:
        self.cluster = cluster
        self.agent = agent
        self.namespace = namespace
        self.model_path = "unknown"

    @property
    def target(self) -> DynamoTarget:
        found = open_target("dynamo")
        assert isinstance(found, DynamoTarget)
        return found

    def spec(self, name: str = "one", **params: Any) -> DeploymentSpec:
        return Request.from_params(PARAMS | params).spec(name, DIGEST, self.model_path)

    def up(self, spec: DeploymentSpec) -> None:
        """Apply and wait until it serves."""
        self.target.apply(spec, OWNER)
        self.wait_ready(spec.name)

    def wait_ready(self, name: str, timeout_s: float = START_S) -> None:
        def ready() -> bool:
            status = self.target.status(name)
            assert status.state in ("pending", "ready"), status.diagnosis or status.reason
            return status.state == "ready"

        wait_for(ready, timeout_s, f"{name} serves")

    def subject(self, deployment: str, **workload: Any) -> Subject:
        load = Request.from_params(PARAMS | workload).workload
        return subject(deployment, load)

    def pods(self, **labels: str) -> list[dict[str, Any]]:
        wanted = ",".join([selector(), *(f"wideloop/{key}={value}" for key, value in labels.items())])
        found = json.loads(self.kubectl("get", "pods", "-l", wanted, "-o", "json"))
        return list(found["items"])

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return self.cluster.kubectl("-n", self.namespace, *arguments, stdin=stdin)

    def left(self) -> list[str]:
        """What there is of ours, objects and processes."""
        found = set(self.kubectl("get", _KINDS, "-l", selector(), "-o", "name").split()) - {_STAYS}
        return sorted(found) + sorted(self.agent.processes(self.namespace))


def subject(deployment: str, workload: Workload) -> Subject:
    return Subject(
        run_id="run", target="dynamo", deployment=deployment, purpose="benchmark", label="test", workload=workload
    )


def environment(kubeconfig: Path, namespace: str, *, by_digest: bool = False) -> dict[str, str]:
    """Settings of a process that uses ``namespace``; ``by_digest``: its images are named by tag and digest."""
    digest = f"@{DIGEST}" if by_digest else ""
    return {
        "WIDELOOP_KUBECONFIG": str(kubeconfig),
        "WIDELOOP_CLUSTER__NAMESPACE": namespace,
        "WIDELOOP_CLUSTER__ENGINE_IMAGE": f"example.com/simulated:1.6.1{digest}",
        "WIDELOOP_CLUSTER__CLIENT_IMAGE": f"example.com/benchmark:1{digest}",
    }


def use(monkeypatch: pytest.MonkeyPatch, kubeconfig: Path, namespace: str, home: Path) -> None:
    """Have this process use ``namespace``, and stores below ``home``."""
    for name in ("RESULTS_URL", "STUDY_URL", "ARTEFACTS_URL"):
        monkeypatch.delenv(f"WIDELOOP_{name}", raising=False)
    monkeypatch.setenv("WIDELOOP_HOME", str(home))
    monkeypatch.setenv("AIRFLOW_HOME", str(home / "airflow"))
    for name, value in environment(kubeconfig, namespace).items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()


@pytest.fixture
def empty_place(
    cluster: Cluster,
    agent: NodeAgent,
    operator: object,
    namespace: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Place]:
    """A namespace that this process points at; no nodes, no claims."""
    use(monkeypatch, cluster.kubeconfig, namespace, tmp_path / "home")
    yield Place(cluster, agent, namespace)
    settings.cache_clear()


@dataclass(frozen=True)
class Model:
    """A model on a claim: ``path`` as pods see it, and the ``folder`` of this machine that is the claim."""

    path: str
    folder: Path


@pytest.fixture(scope="session")
def model(cluster: Cluster, agent: NodeAgent) -> Iterator[Model]:
    """The simulated engine's model, made once, as the product makes it."""
    namespace = f"model-{secrets.token_hex(3)}"
    named = environment(cluster.kubeconfig, namespace)
    options = ClusterOptions(
        namespace=namespace,
        engine_image=named["WIDELOOP_CLUSTER__ENGINE_IMAGE"],
        client_image=named["WIDELOOP_CLUSTER__CLIENT_IMAGE"],
    )
    cluster.kubectl("create", "namespace", namespace)
    names = agent.add_nodes([nodes.node(namespace)])
    wanted = Request.from_params(PARAMS).model
    made = prepare_weights(Api(cluster.kubeconfig), options, get_engine("simulated"), wanted, say=lambda _: None)
    yield Model(made.path, _folder(cluster, namespace, options.model_claim))
    agent.remove_nodes(names)
    cluster.kubectl("delete", "namespace", namespace, "--wait=false")


def _folder(cluster: Cluster, namespace: str, claim: str) -> Path:
    """The folder of this machine that is a claim's volume."""
    bound = "--for=jsonpath={.status.phase}=Bound"
    cluster.kubectl("wait", bound, f"pvc/{claim}", "-n", namespace, "--timeout=30s")
    volume = cluster.kubectl("get", "pvc", claim, "-n", namespace, "-o", "jsonpath={.spec.volumeName}")
    return Path(cluster.kubectl("get", "pv", volume, "-o", "jsonpath={.spec.hostPath.path}"))


@pytest.fixture
def place(empty_place: Place, add_nodes: Callable[[str], list[str]], model: Model) -> Place:
    """One with nodes, claims and a model."""
    add_nodes("h100-8")
    options = settings().cluster
    empty_place.cluster.apply([model_claim(options, 0), files_claim(options)])
    folder = _folder(empty_place.cluster, empty_place.namespace, options.model_claim)
    shutil.copytree(model.folder, folder, dirs_exist_ok=True)
    empty_place.model_path = model.path
    return empty_place
