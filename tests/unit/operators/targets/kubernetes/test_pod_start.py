"""Pods that do not start: what is final, what passes, and what is told when it does not."""

from typing import Any

import pytest
from wideloop.operators.targets.kubernetes.pod_start import start_failure
from wideloop.operators.targets.kubernetes.pods import in_words
from wideloop.operators.targets.kubernetes.scheduling import unschedulable

from tests.unit.operators.targets.kubernetes.cluster_objects import NOW, event, unscheduled_pod, waiting_pod


def failure(pod: dict[str, Any], age: float, *events: dict[str, Any]) -> Any:
    return start_failure("decode", pod, events, age, now=NOW)


def creating(reason: str, message: str, **more: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    pod = waiting_pod("ContainerCreating", age=150)
    return pod, event(pod["metadata"]["name"], reason, message, kind="Warning", **more)


@pytest.mark.parametrize(
    ("reason", "message", "kind", "action"),
    [
        ("FailedCreatePodSandBox", 'plugin type="multus" failed (add): no IP addresses available', "bad_configuration",
         "POD_ANNOTATIONS"),
        ("FailedCreatePodSandBox", 'plugin type="sriov" failed (add): no VF', "bad_configuration", "network"),
        ("FailedCreatePodSandBox", "open /run/systemd/resolve/resolv.conf: no such file", "node_lost", "cordon"),
        ("FailedPrepareDynamicResources", "DRA driver compute-domain.nvidia.com is not registered", "bad_configuration",
         "ComputeDomain"),
        ("FailedMapVolume", "MapVolume.SetUp failed for volume pvc-1", "storage_unavailable", "pvc"),
        ("FailedAttachVolume", "Multi-Attach error for volume pvc-1", "storage_unavailable", "many nodes"),
        ("NetworkNotReady", "network is not ready: cni plugin not initialized", "node_lost", "CNI"),
        ("SomethingNewFailed", "the gizmo is out of order", "bad_configuration", "kubectl describe pod"),
    ],
)  # fmt: skip
def test_a_pod_that_its_node_cannot_make_is_told_in_its_words(
    reason: str, message: str, kind: str, action: str
) -> None:
    pod, warning = creating(reason, message)
    diagnosis = failure(pod, 150, warning)
    assert diagnosis is not None and (diagnosis.kind, action in diagnosis.action) == (kind, True), diagnosis
    assert message in diagnosis.message and reason in diagnosis.message
    assert failure(pod, 30, warning) is None


@pytest.mark.parametrize(
    "later",
    [
        [event("x", "Pulling", "Pulling image", ago=30)],
        [event("x", "Unhealthy", "Readiness probe failed", kind="Warning", ago=1)],
        [event("x", "FailedScheduling", "0/2 nodes are available", kind="Warning", ago=1)],
    ],
)
def test_what_a_node_complained_of_and_then_did_is_over(later: list[dict[str, Any]]) -> None:
    pod, warning = creating("FailedCreatePodSandBox", "no addresses", ago=500)
    assert failure(pod, 600, warning, *later) is None


def test_a_complaint_that_its_node_repeats_rarely_still_holds() -> None:
    pod, warning = creating("FailedCreatePodSandBox", "no IP addresses", ago=300)
    assert failure(pod, 900, warning) is None
    assert failure(pod, 900, warning | {"count": 25}) is not None


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("CreateContainerConfigError", "failed to sync secret cache: timed out waiting for the condition"),
        ("CreateContainerConfigError", "failed to sync configmap cache: timed out waiting for the condition"),
        ("CreateContainerError", "context deadline exceeded"),
        ("CreateContainerError", 'failed to reserve container name "main_x": name "main_x" is reserved for "abc"'),
        ("ErrImagePull", "toomanyrequests: You have reached your pull rate limit: denied"),
        ("ErrImagePull", "unexpected status from HEAD request: 503 Service Unavailable"),
        ("ImagePullBackOff", "dial tcp 1.2.3.4:443: i/o timeout"),
    ],
)
def test_what_passes_by_itself_is_given_three_minutes(reason: str, message: str) -> None:
    pod = waiting_pod(reason, message)
    assert failure(pod, 15) is None and failure(pod, 170) is None
    diagnosis = failure(pod, 190)
    assert diagnosis is not None and message in diagnosis.message


@pytest.mark.parametrize(
    ("reason", "message", "kind", "action"),
    [
        ("CreateContainerConfigError", 'secret "hf-token-secret" not found', "bad_configuration", "secret"),
        ("RunContainerError", "nvidia-container-cli: initialization error: nvml error: driver not loaded", "node_lost",
         "cordon"),
        ("CreateContainerError", 'failed to generate spec: no runtime for "nvidia" is configured', "node_lost",
         "cordon"),
        ("CreateContainerError", "unresolvable CDI devices nvidia.com/gpu=0", "node_lost", "cordon"),
        ("RunContainerError", "exec: /usr/bin/python3: exec format error", "image_unavailable", "architecture"),
        ("CreateContainerConfigError", "container has runAsNonRoot and image will run as root", "bad_configuration",
         "numeric user"),
        ("ErrImagePull", "no match for platform in manifest: not found", "image_unavailable", "architecture"),
        ("ErrImagePull", "x509: certificate signed by unknown authority", "image_unavailable", "certificate"),
        ("ErrImagePull", "manifest unknown", "image_unavailable", "wideep_image"),
    ],
)  # fmt: skip
def test_what_stays_is_told_at_once_with_its_remedy(reason: str, message: str, kind: str, action: str) -> None:
    diagnosis = failure(waiting_pod(reason, message), 15)
    assert diagnosis is not None and (diagnosis.kind, action in diagnosis.action) == (kind, True), diagnosis


@pytest.mark.parametrize(
    ("message", "action"),
    [
        ("0/40 nodes are available: 32 Insufficient nvidia.com/gpu, 8 node(s) had untolerated taint {a: b}.",
         "TOLERATIONS"),
        ("0/40 nodes are available: 8 Insufficient nvidia.com/gpu, 32 node(s) had untolerated taint {cpu: only}.",
         "Free"),
        ("0/40 nodes are available: 8 Insufficient nvidia.com/gpu, 32 node(s) didn't match Pod's node "
        "affinity/selector.",
         "Free"),
        ("0/40 nodes are available: 32 Insufficient nvidia.com/gpu, 8 node(s) didn't match Pod's node "
        "affinity/selector.",
         "SELECTOR"),
        ("0/11 nodes are available: 3 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }, 8 "
         "Insufficient nvidia.com/gpu. preemption: 0/11 nodes are available: 8 No preemption victims found.", "Free "
         "GPUs"),
        ("0/40 nodes are available: 32 Insufficient nvidia.com/gpu, 8 Insufficient rdma/ib.", "RDMA_RESOURCE"),
        ("0/6 nodes are available: 6 Insufficient openshift.io/mlnxnics.", "RDMA_RESOURCE"),
        ("0/6 nodes are available: 6 Insufficient nvidia.com/hostdev, 6 Insufficient nvidia.com/gpu.", "Free GPUs"),
        ("0/40 nodes are available: 32 Insufficient nvidia.com/gpu, 8 Insufficient memory.", "WORKER_MEMORY"),
        ("0/9 nodes are available: 9 node(s) were unschedulable.", "cordoned"),
        ("0/9 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/unreachable: }, 8 Insufficient "
         "nvidia.com/gpu.", "not well"),
        ("0/12 nodes are available: 12 cannot allocate all claims.", "ComputeDomain"),
        ("0/12 nodes are available: 12 node(s) had volume node affinity conflict.", "storage class"),
        ("0/2 nodes are available: 2 node(s) didn't have free ports for the requested pod ports.", "host network"),
    ],
)  # fmt: skip
def test_what_stands_in_the_way_on_the_nodes_for_workers_decides(message: str, action: str) -> None:
    assert action in unschedulable("decode", {"reason": "Unschedulable", "message": message}).action


@pytest.mark.parametrize(
    ("gate", "action"),
    [("kueue.x-k8s.io/admission", "Kueue"), ("grove.io/podgang-pending-creation", "PodGangs"), ("x.io/y", "gate")],
)
def test_a_gated_pod_is_waited_for_and_its_gate_named(gate: str, action: str) -> None:
    message = "Scheduling is blocked due to non-empty scheduling gates"
    pod = unscheduled_pod(message, since=600, reason="SchedulingGated")
    pod["spec"]["schedulingGates"] = [{"name": gate}]
    assert failure(pod, 600) is None and gate in in_words(pod)
    diagnosis = failure(pod, 4000)
    assert diagnosis is not None and gate in diagnosis.message and action in diagnosis.action
    assert ("GROVE" in diagnosis.action) == gate.startswith("grove")
