"""A namespace ready for deployments of the simulated engine: nodes, claims, a model, and the target that uses it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from manifests.deployment import DeploymentSpec
from manifests.engines import engine
from manifests.kubernetes.labels import selector
from manifests.workload import Workload
from operators.request import Request
from operators.settings import settings
from operators.steps.benchmark import Subject
from operators.targets import target
from operators.targets.base import Owner
from operators.targets.dynamo import DynamoTarget, job_run
from tests.airflow_server import SMALL
from tests.cluster.agent import NodeAgent
from tests.cluster.cluster import Cluster, wait_for
from tests.cluster.tasks import wait_for_no_tasks

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
        found = target("dynamo")
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


@pytest.fixture
def place(empty_place: Place, add_nodes: Callable[[str], list[str]], monkeypatch: pytest.MonkeyPatch) -> Place:
    """One with nodes, claims and a model."""
    add_nodes("h100-8")
    monkeypatch.setattr(job_run, "KEPT_S", 0)
    weights = empty_place.target.prepare_weights(engine("simulated"), Request.from_params(PARAMS).model)
    wait_for_no_tasks(empty_place.cluster, empty_place.namespace)
    empty_place.model_path = weights.path
    return empty_place
