"""The diagnoses of pods that do not run: for each its kind, what happened, and what to do about it."""

from __future__ import annotations

import re
from typing import Any

from wideloop.manifests.diagnosis import Diagnosis, FailureKind
from wideloop.operators.targets.kubernetes.platform import Platform

Json = dict[str, Any]

TAIL = 15
#: Waiting reasons of a container whose image cannot be had.
_IMAGE = ("ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable")
_NEVER = re.compile(
    r"not found|manifest unknown|unauthorized|denied|forbidden|InvalidImageName|invalid reference", re.I
)

#: Of the scheduler's message: pattern, kind, and what to do; the first that matches, in this order.
_UNSCHEDULABLE: tuple[tuple[str, FailureKind, str], ...] = (
    (
        r"persistentvolumeclaim .* not found|unbound immediate PersistentVolumeClaims",
        "storage_unavailable",
        "Run wideep_weights, which makes the claims, and check their storage class with `kubectl get pvc`",
    ),
    (
        r"Insufficient nvidia\.com/gpu",
        "unschedulable",
        "Free GPUs, choose a smaller hardware profile, or wait: `kubectl describe nodes` shows who holds them",
    ),
    (
        r"Insufficient (?P<resource>\S*(?:rdma|roce|efa|infiniband|/ib)\S*?)(?:[,.]|$)",
        "unschedulable",
        "No node offers that many RDMA devices: install the device plugin, or set WIDELOOP_CLUSTER__RDMA_RESOURCE "
        "to the name that `kubectl describe node` shows",
    ),
    (
        r"Insufficient (cpu|memory|ephemeral-storage)",
        "unschedulable",
        "Lower WIDELOOP_CLUSTER__WORKER_CPU or __WORKER_MEMORY, or free nodes",
    ),
    (
        r"untolerated taint",
        "unschedulable",
        "Add the taint to WIDELOOP_CLUSTER__TOLERATIONS, or remove it from the nodes",
    ),
    (
        r"didn't match Pod's node affinity/selector",
        "unschedulable",
        "Correct WIDELOOP_CLUSTER__GPU_NODE_SELECTOR: no node carries these labels",
    ),
)


def unschedulable(component: str, condition: Json) -> Diagnosis:
    """A pod that the scheduler has refused, or was told to hold back, for longer than nodes take to appear."""
    message = condition.get("message") or ""
    if condition.get("reason") == "SchedulingGated":
        return Diagnosis(
            kind="unschedulable",
            component=component,
            message=f"its scheduling is held back by a gate: {message}",
            action="A gang scheduler (Grove, Kueue) waits for room or quota, or is not running: look at its workload, "
            "or set WIDELOOP_CLUSTER__GROVE=false",
        )
    matching = [
        (re.search(rf"(\d+ )?(?:{pattern})", message), kind, action) for pattern, kind, action in _UNSCHEDULABLE
    ]
    causes = [(match, kind, action) for match, kind, action in matching if match]
    if not causes:
        return Diagnosis(
            kind="unschedulable",
            component=component,
            message=f"cannot be scheduled: {message or condition.get('reason')}",
            action="See `kubectl describe pod`",
        )
    # A node may lack several things, and one without GPUs lacks those too: what most nodes lack is what is missing.
    lacking = [cause for cause in causes if "Insufficient" in cause[0][0]]
    decisive = max(lacking, key=lambda cause: int(cause[0][1] or 0)) if causes[0] in lacking else causes[0]
    return Diagnosis(
        kind=decisive[1], component=component, message=f"cannot be scheduled: {message}", action=decisive[2]
    )


def not_started(component: str, wait: Json, *, patient: bool) -> Diagnosis | None:
    """A container that cannot be made. ``patient``: what may pass is given time."""
    reason, message = wait["reason"], wait.get("message") or ""
    if reason in _IMAGE:
        if patient and not _NEVER.search(f"{reason} {message}"):
            return None
        return Diagnosis(
            kind="image_unavailable",
            component=component,
            message=f"{reason}: {message}",
            action="Check that the image was built and pushed (run wideep_image), its name, and "
            "WIDELOOP_CLUSTER__IMAGE_PULL_SECRET",
        )
    if reason in ("CreateContainerConfigError", "CreateContainerError", "RunContainerError"):
        return Diagnosis(
            kind="bad_configuration",
            component=component,
            message=f"{reason}: {message}",
            action="A secret, ConfigMap, command or mount of the pod is not there: make it, then apply again",
        )
    return None


def not_mounted(component: str, message: str) -> Diagnosis | None:
    """A pod that waits for its volumes."""
    if not message:
        return None
    return Diagnosis(
        kind="storage_unavailable",
        component=component,
        message=f"its volumes are not mounted: {message}",
        action="Check the claims with `kubectl get pvc`, and that their class can be mounted by many nodes at once",
    )


def refused_by_node(component: str, pod: Json) -> Diagnosis:
    """A pod that its node did not start, or evicted."""
    node, status = pod["spec"].get("nodeName"), pod["status"]
    message = status.get("message") or ""
    if status["reason"] == "Evicted":
        return Diagnosis(
            kind="crashed",
            component=component,
            message=f"was evicted from {node}: {message}",
            action="Free the node's disk or memory, or give the pods a priority class "
            "(WIDELOOP_CLUSTER__PRIORITY_CLASS)",
        )
    return Diagnosis(
        kind="node_lost",
        component=component,
        message=f"node {node} did not run it: {status['reason']}: {message}",
        action="A device of that node may be lost: look at it with `nvidia-smi` and at its device plugin, cordon the "
        "node and try again",
    )


def node_lost(component: str, pod: Json, message: str, since: str) -> Diagnosis:
    """A pod on a node that is gone, or does not answer."""
    node, name = pod["spec"].get("nodeName"), pod["metadata"]["name"]
    return Diagnosis(
        kind="node_lost",
        component=component,
        message=f"node {node} of {name} has been silent since {since}: {message}",
        action="Cordon or remove the node (`kubectl delete node` frees what its pods hold) and try again",
    )


def does_not_end(component: str, pod: Json, since: str) -> Diagnosis:
    """A pod whose node answers, and whose processes do not end when told to."""
    node, name = pod["spec"].get("nodeName"), pod["metadata"]["name"]
    return Diagnosis(
        kind="node_lost",
        component=component,
        message=f"{name} should have ended at {since} and still holds its GPUs on {node}, which answers",
        action="Its processes may hang in a driver: look at the node with `nvidia-smi` and `dmesg`, and restart it",
    )


def probe_failed(component: str, message: str, tail: tuple[str, ...]) -> Diagnosis:
    """A container that its node killed because it did not answer in time."""
    return Diagnosis(
        kind="timed_out",
        component=component,
        message=message,
        action="Its log says how far it came; loading from slow storage needs a model cache that many nodes read fast",
        log_tail=tail,
    )


def host_memory(component: str, pod: Json, tail: tuple[str, ...]) -> Diagnosis:
    """A container that the kernel killed for using more of the host's memory than it may."""
    limits = [c.get("resources", {}).get("limits", {}).get("memory") for c in pod["spec"]["containers"]]
    limit = next((value for value in limits if value), None)
    return Diagnosis(
        kind="bad_configuration",
        component=component,
        message=f"OOMKilled: it used more of the host's memory than {limit or 'the node has'}",
        action="Raise WIDELOOP_CLUSTER__WORKER_MEMORY; shared memory (WIDELOOP_CLUSTER__SHARED_MEMORY) counts too",
        log_tail=tail,
    )


def pods_refused(component: str, refusal: str) -> Diagnosis:
    """A component whose pods the API server refuses, as its controller reports it."""
    if "exceeded quota" in refusal:
        return Diagnosis(
            kind="quota_exceeded",
            component=component,
            message=refusal,
            action="Free what the namespace holds, have its ResourceQuota raised, or choose a smaller profile",
        )
    return Diagnosis(
        kind="bad_configuration",
        component=component,
        message=f"its pods are refused: {refusal}",
        action="Change what the message names, or ask the cluster's administrator for an exception",
    )


def no_pods(component: str, root: Json, platform: Platform) -> Diagnosis:
    """A component of which no pod was made, with no event that gives a reason."""
    conditions = (root.get("status") or {}).get("conditions") or ()
    reported = "; ".join(f"{c['type']} {c.get('reason', '')}: {c.get('message', '')}" for c in conditions)
    return Diagnosis(
        kind="timed_out",
        component=component,
        message=f"{platform.controller} has made no pod of it. It reports: {reported or 'nothing'}",
        action=f"Check that it runs and watches this namespace: `{platform.find_controller}`",
    )
