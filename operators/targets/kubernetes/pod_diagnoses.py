"""The diagnoses of pods that do not run: for each its kind, what happened, and what to do about it."""

from __future__ import annotations

from typing import Any

from wideloop.manifests.diagnosis import Diagnosis
from wideloop.operators.targets.kubernetes.platform import Platform

Json = dict[str, Any]

TAIL = 15
#: By the reason of a pod's condition ``DisruptionTarget``: what happened, and what to do.
_DISRUPTED = {
    "PreemptionByScheduler": (
        "was preempted by a pod of higher priority",
        "Try again, or give the pods a priority class that is not preempted (WIDELOOP_CLUSTER__PRIORITY_CLASS)",
    ),
    "EvictionByEvictionAPI": (
        "was evicted through the API: its node is drained, by hand or by an autoscaler, or is a spot node taken back",
        "Try again on nodes that stay; `kubectl get nodes` shows which are cordoned",
    ),
    "DeletionByTaintManager": (
        "was ended because its node got a taint that it does not tolerate (not ready, maintenance, or spot taken back)",
        "Look at the node's taints, and try again",
    ),
    "TerminationByKubelet": (
        "was ended by its node, which is being shut down or is under pressure",
        "Nodes that may be taken back (spot) end measurements: try again, or select nodes that stay",
    ),
    "DeletionByPodGC": ("was removed because its node is gone", "Try again; see why the node left the cluster"),
}
#: Reasons of a pod that failed because its node was shut down.
_SHUTDOWN = ("Terminated", "NodeShutdown", "Shutdown")


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
    if status["reason"] in _SHUTDOWN:
        return Diagnosis(
            kind="node_lost",
            component=component,
            message=f"node {node} was shut down while it ran: {status['reason']}: {message}",
            action=_DISRUPTED["TerminationByKubelet"][1],
        )
    return Diagnosis(
        kind="node_lost",
        component=component,
        message=f"node {node} did not run it: {status['reason']}: {message}",
        action="A device of that node may be lost: look at it with `nvidia-smi` and at its device plugin, cordon the "
        "node and try again",
    )


def disrupted(component: str, pod: Json, reason: str, message: str) -> Diagnosis:
    """A pod that something outside of it has ended while the deployment served."""
    what, action = _DISRUPTED.get(reason, (f"was ended from outside ({reason})", "Try again"))
    node, name = pod["spec"].get("nodeName"), pod["metadata"]["name"]
    return Diagnosis(
        kind="node_lost",
        component=component,
        message=f"{name} on {node} {what}" + (f": {message}" if message else ""),
        action=action,
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
