"""Deployments that cannot come up, for real: each is told apart within seconds of the state that shows it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from wideloop.manifests.diagnosis import Diagnosis
from wideloop.manifests.errors import ApiRefused
from wideloop.operators.settings import settings
from wideloop.operators.steps import deployment
from wideloop.operators.targets.kubernetes import deployments, pod_start

from tests.cluster.agent.faults import Fault
from tests.cluster.agent.status import now
from tests.cluster.cluster import wait_for
from tests.cluster.place import OWNER, Place, empty_place, place  # noqa: F401 - fixtures

pytestmark = pytest.mark.cluster


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is given a minute in earnest is given seconds here: enough for an operator to make its pods."""
    monkeypatch.setattr(pod_start, "GRACE_S", 4.0)
    monkeypatch.setattr(pod_start, "LONG_GRACE_S", 5.0)
    monkeypatch.setattr(deployments, "_GRACE_S", 1)


def fails(place: Place, spec: Any) -> Diagnosis:  # noqa: F811
    """Why ``spec`` does not come up; then everything of it is removed."""
    place.target.apply(spec, OWNER)
    try:
        return failed(place, spec.name)
    finally:
        place.target.delete(spec.name)
        assert place.left() == []


def failed(place: Place, name: str) -> Diagnosis:  # noqa: F811
    def look() -> Diagnosis | None:
        status = place.target.status(name)
        assert status.state in ("pending", "failed", "ready")
        return status.diagnosis

    found = wait_for(look, 60, f"{name} fails")
    assert found is not None
    return found


def test_an_image_that_is_not_there(place: Place) -> None:  # noqa: F811
    with place.agent.fault(Fault("pull", place.namespace, "decode")):
        found = fails(place, place.spec())
    assert (found.kind, found.component) == ("image_unavailable", "decode")
    assert "simulated" in found.message and "wideep_image" in found.action


def test_too_few_gpus(empty_place: Place, add_nodes: Any, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    add_nodes("h100-8")
    monkeypatch.setenv("WIDELOOP_CLUSTER__RDMA_RESOURCE", "")
    settings.cache_clear()
    add_claims(empty_place)
    found = fails(empty_place, empty_place.spec(hardware="h100-16"))
    assert found.kind == "unschedulable"
    assert "Insufficient nvidia.com/gpu" in found.message


def test_nodes_without_rdma(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setenv("WIDELOOP_CLUSTER__RDMA_RESOURCE", "rdma/nothing_has_it")
    settings.cache_clear()
    found = fails(place, place.spec(hardware="h100-16-4x4"))
    assert found.kind == "unschedulable"
    assert "RDMA" in found.action and "rdma/nothing_has_it" in found.message


def test_claims_that_nobody_made(empty_place: Place, add_nodes: Any) -> None:  # noqa: F811
    add_nodes("h100-8")
    found = fails(empty_place, empty_place.spec())
    assert found.kind == "storage_unavailable"
    assert "wideep_weights" in found.action


def test_an_engine_that_dies_of_something_unknown(place: Place) -> None:  # noqa: F811
    said = "ValueError: no such attention backend"
    with place.agent.fault(Fault("exit", place.namespace, "prefill", code=3, message=said)):
        found = fails(place, place.spec())
    assert (found.kind, found.component) == ("crashed", "prefill")
    assert "status 3" in found.message
    assert found.log_tail[-1] == "ValueError: no such attention backend"


def test_an_engine_that_runs_out_of_gpu_memory_is_an_outcome(place: Place) -> None:  # noqa: F811
    spec = place.spec(mem_fraction_static=0.99)  # no room for anything but weights and KV cache
    place.target.apply(spec, OWNER)
    outcome = wait_for(lambda: deployment.outcome("dynamo", "one"), 60, "an outcome")
    assert outcome.state == "infeasible"
    assert outcome.diagnosis is not None and outcome.diagnosis.kind == "out_of_memory"
    assert outcome.diagnosis.log_tail
    place.target.delete("one")


def test_a_worker_that_the_kernel_killed(place: Place) -> None:  # noqa: F811
    place.up(place.spec())
    (pod,) = place.pods(deployment="one", component="decode")
    place.agent.kill(place.namespace, pod["metadata"]["name"], out_of_memory=True)
    found = failed(place, "one")
    assert (found.kind, found.component) == ("bad_configuration", "decode")
    assert "OOMKilled" in found.message and "WORKER_MEMORY" in found.action
    place.target.delete("one")


def test_a_node_that_falls_silent_under_a_deployment(place: Place) -> None:  # noqa: F811
    place.up(place.spec())
    (pod,) = place.pods(deployment="one", component="decode")
    silence(place, pod)
    found = failed(place, "one")
    assert (found.kind, found.component) == ("node_lost", "decode")
    assert pod["spec"]["nodeName"] in found.message and "Kubelet stopped posting node status" in found.message
    place.target.delete("one")
    assert place.left() == []


def silence(place: Place, pod: dict[str, Any]) -> None:  # noqa: F811
    """What Kubernetes' node controller says of a node without a heartbeat, and of a pod there: it is off here."""
    unknown = {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}
    unknown |= {"message": "Kubelet stopped posting node status."}
    for thing, condition in (
        (("node", pod["spec"]["nodeName"]), unknown),
        (("pod", pod["metadata"]["name"]), {"type": "Ready", "status": "False", "lastTransitionTime": now()}),
    ):
        patch = json.dumps({"status": {"conditions": [condition]}})
        place.kubectl("patch", *thing, "--subresource=status", "--type=strategic", "-p", patch)


def test_a_quota_that_is_too_small_for_the_workers(place: Place) -> None:  # noqa: F811
    place.kubectl("create", "quota", "gpus", "--hard=requests.nvidia.com/gpu=2")
    found = fails(place, place.spec())
    assert found.kind == "quota_exceeded"
    assert "requests.nvidia.com/gpu" in found.message


def test_a_quota_that_is_too_small_for_anything(place: Place) -> None:  # noqa: F811
    place.kubectl("create", "quota", "none", "--hard=pods=0")
    with pytest.raises(ApiRefused, match=r"exceeded quota.*have its quota raised"):
        place.target.apply(place.spec(), OWNER)
    assert place.left() == []


def test_a_namespace_that_is_going_away(place: Place) -> None:  # noqa: F811
    place.kubectl(
        "patch", "configmap", "kube-root-ca.crt", "--type=merge", "-p", '{"metadata":{"finalizers":["t.x/y"]}}'
    )
    place.cluster.kubectl("delete", "namespace", place.namespace, "--wait=false")
    with pytest.raises(ApiRefused, match=r"being terminated.*WIDELOOP_CLUSTER__NAMESPACE"):
        place.target.apply(place.spec(), OWNER)
    place.kubectl("patch", "configmap", "kube-root-ca.crt", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')


def add_claims(place: Place) -> None:  # noqa: F811
    """The claims, without a model on them."""
    from wideloop.manifests.kubernetes.model_cache import files_claim, model_claim

    options = settings().cluster
    place.cluster.apply([model_claim(options, 0), files_claim(options)])
