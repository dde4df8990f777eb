"""Why the scheduler finds no node for a pod: what stands in the way on the nodes that could run it."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from wideloop.manifests.diagnosis import Diagnosis, FailureKind

Json = dict[str, Any]

_GPU = r"Insufficient (?:nvidia\.com|amd\.com)/gpu"


class Obstacle(NamedTuple):
    """What the scheduler's message says of some nodes, and what to do."""

    pattern: str
    kind: FailureKind
    action: str


#: The first that a part of the message matches counts, so the more special come first.
_OBSTACLES = (
    Obstacle(
        r"persistentvolumeclaim .* not found|unbound immediate PersistentVolumeClaims",
        "storage_unavailable",
        "Run wideep_weights, which makes the claims, and check their storage class with `kubectl get pvc`",
    ),
    Obstacle(
        r"volume node affinity conflict|volume zone|max volume count|available persistent volumes to bind",
        "storage_unavailable",
        "The claim's storage is bound to other nodes or a zone: use a storage class that many nodes can mount, or "
        "select the nodes where it lies",
    ),
    Obstacle(
        _GPU,
        "unschedulable",
        "Free GPUs, choose a smaller hardware profile, or wait: `kubectl describe nodes` shows who holds them",
    ),
    Obstacle(
        r"Insufficient (?:cpu|memory|ephemeral-storage|hugepages\S*)|Too many pods",
        "unschedulable",
        "Lower WIDELOOP_CLUSTER__WORKER_CPU or __WORKER_MEMORY, or free nodes",
    ),
    Obstacle(
        r"Insufficient \S+/\S+",
        "unschedulable",
        "No node offers that many RDMA devices: install the device plugin, or set WIDELOOP_CLUSTER__RDMA_RESOURCE "
        "to the name that `kubectl describe node` shows",
    ),
    Obstacle(
        r"allocate all claims|resourceclaim|resource claim|DRA",
        "unschedulable",
        "The GPUs' claim cannot be allocated: check that the ComputeDomain and its ResourceClaimTemplate exist "
        "(WIDELOOP_CLUSTER__COMPUTE_DOMAIN_CLAIM), and that the DRA driver runs on the nodes",
    ),
    Obstacle(
        r"were unschedulable|untolerated taint \{node\.kubernetes\.io/unschedulable",
        "unschedulable",
        "The nodes are cordoned: `kubectl uncordon` them once they are well, or wait for their maintenance to end",
    ),
    Obstacle(
        r"untolerated taint \{node\.(?:kubernetes\.io|cloudprovider\.kubernetes\.io)/",
        "unschedulable",
        "The nodes are not well (not ready, under pressure, or being shut down): see `kubectl describe node`",
    ),
    Obstacle(
        r"untolerated taint",
        "unschedulable",
        "Add the taint to WIDELOOP_CLUSTER__TOLERATIONS, or remove it from the nodes",
    ),
    Obstacle(
        r"didn't match Pod's node affinity/selector",
        "unschedulable",
        "Correct WIDELOOP_CLUSTER__GPU_NODE_SELECTOR: no node with free GPUs carries these labels",
    ),
    Obstacle(
        r"free ports",
        "unschedulable",
        "Another pod on the host network has these ports: wait for it, or choose other nodes",
    ),
    Obstacle(
        r"anti-affinity|topology spread|pod affinity",
        "unschedulable",
        "Rules about where pods may lie together leave no node: free nodes, or change the rule",
    ),
)
#: Taints of nodes that never run workers.
_CONTROL_PLANE = re.compile(
    r"untolerated taint \{(?:node-role\.kubernetes\.io/|CriticalAddonsOnly|"
    r"node\.kubernetes\.io/etcd)"
)
_PART = re.compile(r"(?P<count>\d+) (?P<text>.*?)(?=, \d+ |\.? preemption:|\.$|$)", re.DOTALL)
_TOTAL = re.compile(r"\d+/(?P<total>\d+) nodes are available")


def unschedulable(component: str, condition: Json) -> Diagnosis:
    """A pod that the scheduler has refused for longer than nodes take to appear."""
    message = condition.get("message") or ""
    obstacle = _decisive(message)
    return Diagnosis(
        kind=obstacle.kind if obstacle else "unschedulable",
        component=component,
        message=f"cannot be scheduled: {message or condition.get('reason')}",
        action=obstacle.action if obstacle else "Change what the message names; `kubectl describe pod` shows the pod",
    )


def _decisive(message: str) -> Obstacle | None:
    """The obstacle on the nodes that could run the pod.

    The message counts over all nodes, of which most have no GPU: those lack GPUs, or are shut by a taint or selector.
    What all nodes have in common decides, else what the fewest have: the nodes for workers are the fewer.
    """
    parts = [(obstacle, count) for text, count in _parts(message) if (obstacle := _obstacle(text)) is not None]
    if not parts:
        return _obstacle(message)
    total = _TOTAL.search(message)
    everywhere = [obstacle for obstacle, count in parts if total and count == int(total["total"])]
    if everywhere:
        return min(everywhere, key=_OBSTACLES.index)
    return min(parts, key=lambda part: (part[1], _OBSTACLES.index(part[0])))[0]


def _parts(message: str) -> list[tuple[str, int]]:
    """What the message says of nodes, and of how many; nodes of the control plane are left out."""
    _, _, listed = message.partition("nodes are available:")
    parts = [(part["text"], int(part["count"])) for part in _PART.finditer(listed.partition(" preemption:")[0])]
    return [part for part in parts if not _CONTROL_PLANE.search(part[0])]


def _obstacle(text: str) -> Obstacle | None:
    return next((o for o in _OBSTACLES if re.search(o.pattern, text, re.IGNORECASE)), None)


def gated(component: str, names: tuple[str, ...]) -> Diagnosis:
    """A pod that was held back for longer than a queue is waited for."""
    listed = ", ".join(names)
    action = "Look at what sets this gate and whether it runs"
    if "kueue" in listed:
        action = "Kueue holds it: see its workload (`kubectl get workloads`) for the quota or topology that it "
        "waits for"
    elif "grove" in listed or listed == "unknown":
        action = (
            "A gang scheduler waits for room for all pods at once, or is not running: see its PodGangs, or set "
            "WIDELOOP_CLUSTER__GROVE=false where Grove is not installed"
        )
    return Diagnosis(
        kind="unschedulable",
        component=component,
        message=f"its scheduling is held back by a gate: {listed}",
        action=action,
    )
