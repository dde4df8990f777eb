from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from wideloop.manifests.errors import ApiRefused, TargetError
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.operators.targets.dynamo.crd import CRD
from wideloop.operators.targets.kubernetes import objects
from wideloop.operators.targets.kubernetes.cluster import Cluster
from wideloop.operators.targets.kubernetes.deployments import Deployments
from wideloop.operators.targets.kubernetes.files import Files

from tests.unit.operators.targets.kubernetes.cluster_objects import DYNAMO, NAME, at, graph, pod
from tests.unit.operators.targets.kubernetes.scripted_api import Script, answer, refusal, serve, write_kubeconfig

ALL = "/apis/nvidia.com/v1beta1/namespaces/ns/dynamographdeployments"
ONE = f"{ALL}/{NAME}"
PODS = "/api/v1/namespaces/ns/pods"
LOG = f"{PODS}/one/log"
NONE = answer(200, {"items": [], "metadata": {"resourceVersion": "1"}})
LEAVING = graph(deletionTimestamp=at(1), finalizers=["nvidia.com/finalizer"])


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def cluster(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setattr(objects, "_POLL_S", 0.01)
    with serve(script) as port:
        yield Cluster(write_kubeconfig(tmp_path / "kubeconfig", port), None, ClusterOptions(namespace="ns"), DYNAMO)


def nothing_else(script: Script) -> None:
    for path in ("/apis/batch/v1/namespaces/ns/jobs", PODS, "/api/v1/namespaces/ns/configmaps"):
        script.on("GET", path, NONE)


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
    nothing_else(script)
    script.on("GET", CRD, answer(200, {}))
    script.on("DELETE", ONE, answer(200, {}))
    script.on("GET", ONE, *[answer(200, LEAVING)] * 3, refusal(404, "NotFound"))
    script.on("POST", f"{PODS}/{NAME}-files:8080/proxy/remove/", answer(200, b"{}"))
    files = Files(cluster, NAME, tmp_path / "here")
    Deployments(cluster, None, release_timeout_s=30).delete(NAME, files)
    assert script.times(ONE) == 5

    script.on("GET", ONE, answer(200, LEAVING))
    with pytest.raises(TargetError, match=r"waits for nvidia\.com/finalizer.*operator runs"):
        Deployments(cluster, None, release_timeout_s=0).delete(NAME, files)


def test_a_cluster_without_dynamo_has_no_deployments_and_says_so_at_once(
    cluster: Cluster, script: Script, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its API server answers 404 to all that is asked of a kind that it does not know."""
    nothing_else(script)
    left = {"metadata": {"name": f"{NAME}-files", "labels": {"wideloop/deployment": NAME}, "creationTimestamp": at(1)}}
    script.on("GET", PODS, answer(200, {"items": [left], "metadata": {"resourceVersion": "1"}}))
    deployments = Deployments(cluster, None, release_timeout_s=30)
    began = time.monotonic()
    assert [owned.name for owned in deployments.owned()] == [NAME]
    script.on("GET", PODS, NONE)
    deployments.delete(NAME, Files(cluster, NAME, tmp_path / "here"))
    assert time.monotonic() - began < 5
    assert not [path for _, path in script.asked if path.startswith(ALL)]
    assert len([r for r in caplog.records if "Dynamo's operator is not installed" in r.message]) == 1


def test_who_may_not_see_the_definition_still_finds_deployments(cluster: Cluster, script: Script) -> None:
    nothing_else(script)
    script.on("GET", CRD, refusal(403, "Forbidden"))
    script.on("GET", ALL, answer(200, {"items": [graph()], "metadata": {"resourceVersion": "1"}}))
    assert [o.name for o in Deployments(cluster, None, release_timeout_s=30).owned()] == [NAME]


@pytest.mark.parametrize("answers", ["refused", "silent"])
def test_the_log_of_a_node_that_is_gone_is_not_waited_for(
    cluster: Cluster, script: Script, monkeypatch: pytest.MonkeyPatch, answers: str
) -> None:
    monkeypatch.setattr(objects, "_LOG_S", 0.4)
    done = threading.Event()
    unreachable = refusal(500, "InternalError", "dial tcp 10.0.0.7:10250: connect: no route to host")
    script.on("GET", LOG, unreachable if answers == "refused" else lambda handler: done.wait(10) and None)
    began = time.monotonic()
    (line,) = objects.log_lines(cluster.api, "ns", "one")
    done.set()
    assert time.monotonic() - began < 3
    assert "the log cannot be read" in line and ("no route to host" in line or answers == "silent")


def test_a_log_that_cannot_be_read_hides_nothing_and_is_asked_for_at_the_next_look(
    cluster: Cluster, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "_LOG_S", 0.1)
    ended = pod(name="one", state={"terminated": {"exitCode": 1}})
    script.on("GET", f"{PODS}/one", answer(200, ended))
    script.on("GET", LOG, refusal(500, "InternalError", "no route to host"))
    assert cluster.last_log(ended, False) == ()
    script.on("GET", LOG, answer(200, b"CUDA out of memory\n"))
    assert cluster.last_log(ended, False) == ("CUDA out of memory",)


@pytest.mark.parametrize(
    ("status", "message", "is_so"),
    [
        (404, "not found", True),
        (409, "the UID in the precondition does not match", True),
        (422, "metadata.uid: Invalid value: field is immutable", True),
        (422, "spec.backoffLimit: Invalid value", False),
        (403, "forbidden", False),
    ],
)
def test_an_object_that_another_took_the_place_of(status: int, message: str, is_so: bool) -> None:
    refused = ApiRefused(method="PATCH", path=ONE, status=status, reason="", message=message, source="a test")
    assert objects.replaced(refused) is is_so


def test_a_log_is_asked_for_again_when_that_may_help(cluster: Cluster, script: Script) -> None:
    script.on("GET", LOG, refusal(503, "ServiceUnavailable"), answer(200, b"one\ntwo\n"))
    assert objects.log_lines(cluster.api, "ns", "one") == ("one", "two")
    script.on("GET", LOG, refusal(404, "NotFound"))
    assert objects.log_lines(cluster.api, "ns", "one") == ()
    script.on("GET", LOG, refusal(403, "Forbidden"))
    with pytest.raises(ApiRefused, match="403"):
        objects.log_lines(cluster.api, "ns", "one")
