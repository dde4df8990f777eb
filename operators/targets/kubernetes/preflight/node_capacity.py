"""What nodes have, what their pods hold of it, and whether more pods fit: a page of the API server's at a time.

A cluster may have thousands of nodes, so nothing is kept of a node but what is compared here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wideloop.manifests.errors import ApiRefused
from wideloop.manifests.kubernetes.demand import Demand
from wideloop.manifests.kubernetes.labels import DEPLOYMENT
from wideloop.operators.targets.kubernetes.api import Api, Json

#: Objects per page: those of a real node are some 20 kB each.
_PAGE = 250
#: Begin of the taints that Kubernetes sets for a node's state, and the effects that keep pods away.
_STATE = "node.kubernetes.io/"
_SHUTS = ("NoSchedule", "NoExecute")


@dataclass
class Node:
    """A node with devices.

    Attributes:
        gpu: resource name of its GPUs; GPU feature discovery's labels begin with it.
        taints: as in the node's spec, but for those that Kubernetes sets for the node's state.
        devices: allocatable whole devices by resource. held: those that pods have. holders: pods with GPUs.
        problem: why it takes no pods now, e.g. ``cordoned``, ``not ready``; empty when it does.
        lost: GPUs that it has and does not offer, because they are unhealthy.
        shared_by: pods that one GPU is shared by, where its devices are shares (time slicing, MPS); else 1.
    """

    name: str
    labels: Mapping[str, str]
    taints: Sequence[Mapping[str, Any]]
    devices: Mapping[str, int]
    gpu: str
    problem: str = ""
    lost: int = 0
    shared_by: int = 1
    held: Counter[str] = field(default_factory=Counter)
    holders: list[str] = field(default_factory=list)

    @property
    def ready(self) -> bool:
        return not self.problem

    @property
    def product(self) -> str:
        """E.g. ``NVIDIA-H100-80GB-HBM3``; empty where GPU feature discovery does not run."""
        return self.labels.get(f"{self.gpu}.product", "")

    @property
    def gpu_gib(self) -> float | None:
        """Memory of a GPU, where the label is there (in MiB)."""
        text = self.labels.get(f"{self.gpu}.memory", "")
        return int(text) / 1024 if text.isdigit() else None

    def free(self, resource: str) -> int:
        return max(0, self.devices.get(resource, 0) - self.held[resource])

    def takes(self, demand: Demand) -> bool:
        """Whether its labels and taints let such pods in."""
        chosen = all(self.labels.get(key) == value for key, value in demand.selector.items())
        return chosen and not self.shut_by(demand)

    def shut_by(self, demand: Demand) -> list[str]:
        """Taints that these pods do not tolerate."""
        return [
            f"{taint['key']}={taint.get('value', '')}:{taint['effect']}"
            for taint in self.taints
            if taint["effect"] in _SHUTS and not any(_tolerates(toleration, taint) for toleration in demand.tolerations)
        ]


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    if toleration.get("effect") not in (None, "", taint["effect"]):
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return toleration.get("key") in (None, "", taint["key"])
    return bool(toleration.get("key") == taint["key"] and toleration.get("value", "") == taint.get("value", ""))


@dataclass
class NodeCapacity:
    """The nodes with GPUs, and whether the pods of every namespace were counted."""

    nodes: list[Node]
    all_namespaces: bool


def survey(api: Api, namespace: str, deployment: str, gpu: str) -> NodeCapacity:
    """The nodes with GPUs and what pods hold of them, those of ``deployment`` itself left out.

    Args:
        gpu: resource name of the GPUs.

    Raises:
        ApiRefused: nodes, or the namespace's own pods, may not be listed.
    """
    nodes = {}
    for item in _items(api, "/api/v1/nodes", {}):
        node = _node(item, gpu)
        if node.devices.get(gpu):
            nodes[node.name] = node
    # Pods that have ended hold nothing.
    alive = {"fieldSelector": "status.phase!=Succeeded,status.phase!=Failed"}
    try:
        _count(nodes, _items(api, "/api/v1/pods", alive), deployment)
        return NodeCapacity(list(nodes.values()), all_namespaces=True)
    except ApiRefused as error:
        if error.status != 403:
            raise
    _count(nodes, _items(api, f"/api/v1/namespaces/{namespace}/pods", alive), deployment)
    return NodeCapacity(list(nodes.values()), all_namespaces=False)


def _items(api: Api, path: str, query: Mapping[str, str]) -> Iterator[Json]:
    for page in api.pages(path, {**query, "limit": _PAGE}):
        yield from page["items"]


def _node(item: Json, gpu: str) -> Node:
    metadata, spec, status = item["metadata"], item["spec"], item.get("status") or {}
    labels = metadata.get("labels") or {}
    devices = _devices(status.get("allocatable") or {})
    shared_by = _shared_by(labels, gpu)
    whole = {name: amount // shared_by if name == gpu else amount for name, amount in devices.items()}
    capacity = _devices(status.get("capacity") or {}).get(gpu, 0) // shared_by
    taints = spec.get("taints") or ()
    return Node(
        name=metadata["name"],
        labels=labels,
        taints=[taint for taint in taints if not taint["key"].startswith(_STATE)],
        devices=whole,
        gpu=gpu,
        problem=_problem(spec, status, taints),
        lost=max(0, capacity - whole.get(gpu, 0)),
        shared_by=shared_by,
    )


def _problem(spec: Json, status: Json, taints: Sequence[Mapping[str, Any]]) -> str:
    """Why a node takes no pods now. Kubernetes adds taints for each of these states, also for a cordon."""
    if not any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or ()):
        return "not ready"
    states = [t["key"].removeprefix(_STATE) for t in taints if t["key"].startswith(_STATE) and t["effect"] in _SHUTS]
    if spec.get("unschedulable") or "unschedulable" in states:
        return "cordoned"
    return ", ".join(states)


def _shared_by(labels: Mapping[str, str], gpu: str) -> int:
    """By how many pods a GPU is shared, as GPU feature discovery labels a node with time slicing or MPS."""
    strategy = labels.get(f"{gpu}.sharing-strategy", "none")
    shared = strategy != "none" or labels.get(f"{gpu}.product", "").endswith("-SHARED")
    replicas = labels.get(f"{gpu}.replicas", "")
    return max(1, int(replicas)) if shared and replicas.isdigit() else 1


def _devices(amounts: Mapping[str, str]) -> dict[str, int]:
    """Extended resources; the API server writes 1000 of one as ``1k``."""
    from kubernetes.utils.quantity import parse_quantity

    whole = {name: amount for name, amount in amounts.items() if "/" in name}
    return {name: int(amount) if amount.isdigit() else int(parse_quantity(amount)) for name, amount in whole.items()}


def _count(nodes: Mapping[str, Node], pods: Iterable[Json], deployment: str) -> None:
    for pod in pods:
        node = nodes.get(pod["spec"].get("nodeName") or "")
        metadata = pod["metadata"]
        if node is None or (metadata.get("labels") or {}).get(DEPLOYMENT) == deployment:
            continue
        held: Counter[str] = Counter()
        for container in pod["spec"]["containers"]:
            held.update(_devices((container.get("resources") or {}).get("limits") or {}))
        node.held += held
        if held[node.gpu]:
            node.holders.append(f"{metadata['namespace']}/{metadata['name']}")


def unplaced(demands: Sequence[Demand], nodes: Sequence[Node], *, empty: bool = False) -> list[Demand]:
    """The demands of which not every pod finds a node, the largest pods placed first; whole pods only.

    Args:
        empty: as if no pod ran there yet.
    """
    left = {n.name: Counter(n.devices if empty else {r: n.free(r) for r in n.devices}) for n in nodes if n.ready}
    gpu = next((n.gpu for n in nodes), "")
    failed = []
    for demand in sorted(demands, key=lambda d: -d.devices().get(gpu, 0)):
        wants = Counter(demand.devices())
        fitting = [n for n in nodes if n.name in left and n.takes(demand)] if wants else []
        for _ in range(demand.pods if wants else 0):
            # The fullest node that still takes it: wide workers then find whole nodes.
            rooms = [left[n.name] for n in fitting if left[n.name] >= wants]
            if not rooms:
                failed.append(demand)
                break
            min(rooms, key=lambda room: room[gpu]).subtract(wants)
    return failed
