from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_objects import NAME, at, graph
from scripted_api import Script, answer, refusal, serve, write_kubeconfig

from manifests.errors import TargetError
from manifests.kubernetes.options import ClusterOptions
from operators.targets.dynamo import objects
from operators.targets.dynamo.cluster import Cluster
from operators.targets.dynamo.deployments import Deployments
from operators.targets.dynamo.files import Files

ALL = "/apis/nvidia.com/v1beta1/namespaces/ns/dynamographdeployments"
ONE = f"{ALL}/{NAME}"
LEAVING = graph(deletionTimestamp=at(1), finalizers=["nvidia.com/finalizer"])


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def cluster(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setattr(objects, "_POLL_S", 0.01)
    with serve(script) as port:
        yield Cluster(write_kubeconfig(tmp_path / "kubeconfig", port), None, ClusterOptions(namespace="ns"))


def test_nothing_is_made_of_an_object_that_is_being_deleted(cluster: Cluster, script: Script) -> None:
    script.on("GET", ONE, answer(200, LEAVING), answer(200, LEAVING), refusal(404, "NotFound"))
    script.on("POST", ALL, answer(201, graph()))
    objects.apply(cluster.api, graph())
    assert [method for method, _ in script.asked] == ["GET", "GET", "GET", "POST"]


def test_one_that_does_not_go_says_what_it_waits_for(
    cluster: Cluster, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "_GONE_S", 0.05)
    script.on("GET", ONE, answer(200, LEAVING))
    with pytest.raises(TargetError, match=r"being deleted.*nvidia\.com/finalizer"):
        objects.apply(cluster.api, graph())


def test_a_deployment_is_gone_once_its_graph_is(cluster: Cluster, script: Script, tmp_path: Path) -> None:
    """Its operator lets it go some time after its pods."""
    none = answer(200, {"items": [], "metadata": {"resourceVersion": "1"}})
    for path in ("/apis/batch/v1/namespaces/ns/jobs", "/api/v1/namespaces/ns/pods", "/api/v1/namespaces/ns/configmaps"):
        script.on("GET", path, none)
    script.on("DELETE", ONE, answer(200, {}))
    script.on("GET", ONE, *[answer(200, LEAVING)] * 3, refusal(404, "NotFound"))
    script.on("POST", f"/api/v1/namespaces/ns/pods/{NAME}-files:8080/proxy/remove/", answer(200, b"{}"))
    files = Files(cluster, NAME, tmp_path / "here")
    Deployments(cluster, None, release_timeout_s=30).delete(NAME, files)
    assert script.times(ONE) == 5

    script.on("GET", ONE, answer(200, LEAVING))
    with pytest.raises(TargetError, match=r"waits for nvidia\.com/finalizer.*operator runs"):
        Deployments(cluster, None, release_timeout_s=0).delete(NAME, files)
