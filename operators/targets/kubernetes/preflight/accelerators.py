"""Whether the cluster's GPUs and RDMA devices are those of the hardware profile, and free."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.findings import Finding
from wideloop.manifests.hardware import GpuSpec
from wideloop.manifests.kubernetes.demand import Demand
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.operators.targets.kubernetes.preflight.check_result import CheckResult
from wideloop.operators.targets.kubernetes.preflight.node_capacity import Node, NodeCapacity, unplaced

#: Drivers report a little less than a data sheet.
_SAME_MEMORY = 0.93
_NAMED = 4
_EVERYTHING = ({"operator": "Exists"},)


def check_accelerators(
    spec: DeploymentSpec, options: ClusterOptions, demands: Sequence[Demand], room: NodeCapacity
) -> list[CheckResult]:
    """GPUs, the kind of GPU, RDMA devices."""
    return [_gpus(spec, options, demands, room), _kind(spec, demands, room), _rdma(spec, options, demands, room)]


def _gpus(spec: DeploymentSpec, options: ClusterOptions, demands: Sequence[Demand], room: NodeCapacity) -> CheckResult:
    name = "GPUs"
    # RDMA devices have a line of their own.
    gpu = spec.hardware.gpu.resource
    wanted = _gpus_only(demands, gpu)
    pods = ", ".join(f"{d.component} {d.pods} x {d.devices()[gpu]}" for d in wanted if d.devices())
    free = sum(n.free(gpu) for n in room.nodes if n.ready)
    total = sum(n.devices[gpu] for n in room.nodes)
    counted = "" if room.all_namespaces else "; pods of other namespaces may not be seen and are not counted"
    there = f"{free} of {total} GPUs on {len(room.nodes)} nodes are free{counted}"
    failed = unplaced(wanted, room.nodes)
    if not failed:
        return CheckResult(name, f"{pods} fit: {there}")
    rule, suggestion = _why(spec.hardware.gpu, wanted, failed[0], room.nodes)
    severity = "warning" if options.autoscaled else "error"
    finding = Finding(
        field="hardware",
        value=spec.hardware.name,
        rule=f"needs {pods} GPUs in pods that each lie on one node, and {rule} ({there})",
        suggestion=suggestion,
        severity=severity,
    )
    return CheckResult(name, there, (finding,))


def _why(gpu: GpuSpec, demands: Sequence[Demand], failed: Demand, nodes: Sequence[Node]) -> tuple[str, str]:
    """Why pods find no node, and what to do: the mildest cause that explains it, else all that would be needed."""
    if not nodes:
        install = f"Install {gpu.vendor.upper()}'s GPU operator, or check that GPU nodes have joined"
        return f"no node offers {gpu.resource}", install
    if not unplaced(demands, nodes, empty=True):
        holders = [holder for node in nodes for holder in node.holders]
        return f"others hold them: {_some(holders)}", "Wait for them, delete them, or choose a smaller profile"
    obstacles = [o for o in _obstacles(gpu.resource, demands, failed, nodes) if o.rule]
    for obstacle in obstacles:
        if not unplaced(obstacle.demands, obstacle.nodes, empty=True):
            return obstacle.rule, obstacle.action
    without = [d._replace(selector={}, tolerations=_EVERYTHING) for d in demands]
    if not unplaced(without, [_repaired(node) for node in nodes], empty=True):
        return "; ".join(o.rule for o in obstacles), ". ".join(o.action for o in obstacles)
    largest = max(_repaired(node).devices[gpu.resource] for node in nodes)
    each = failed.devices()[gpu.resource]
    if largest < each:
        action = f"Choose a profile with {largest} GPUs per node, or one of fewer GPUs"
        return f"no node has {each} (the largest has {largest})", action
    if shared := [node.name for node in nodes if node.shared_by > 1]:
        return (
            f"GPUs of {_some(shared)} are shared by several pods, so that they count less",
            "Turn time slicing off for these nodes, or add nodes",
        )
    return "there are too few", "Add nodes, or choose a smaller hardware profile"


class _Obstacle(NamedTuple):
    """What may stand in the way: an empty ``rule`` where it does not; ``demands`` and ``nodes`` without it."""

    rule: str
    action: str
    demands: Sequence[Demand]
    nodes: Sequence[Node]


def _obstacles(resource: str, demands: Sequence[Demand], failed: Demand, nodes: Sequence[Node]) -> Iterator[_Obstacle]:
    unlabelled = [n for n in nodes if not n.takes(failed._replace(tolerations=_EVERYTHING))]
    yield _Obstacle(
        "too few nodes carry the labels of gpu_node_selector" if unlabelled else "",
        f"Correct it: {dict(failed.selector)}",
        [d._replace(selector={}) for d in demands],
        nodes,
    )
    taints = sorted({taint for node in nodes for taint in node.shut_by(failed)})
    yield _Obstacle(
        f"nodes are tainted: {_some(taints)}" if taints else "",
        "Add them to tolerations, or remove the taints",
        [d._replace(tolerations=_EVERYTHING) for d in demands],
        nodes,
    )
    yield from _states(demands, nodes)
    lost = [f"{n.name} offers {n.devices[resource]} of its {n.devices[resource] + n.lost}" for n in nodes if n.lost]
    yield _Obstacle(
        f"GPUs are unhealthy: {_some(lost)}" if lost else "",
        "Look at them with `nvidia-smi` and `dmesg | grep Xid`, and restart or replace the node",
        demands,
        [replace(node, devices=_repaired(node).devices, lost=0) for node in nodes],
    )


def _states(demands: Sequence[Demand], nodes: Sequence[Node]) -> Iterator[_Obstacle]:
    """Nodes that take no pods now: cordoned ones, those with any other problem, all of them."""
    cordoned = [n for n in nodes if n.problem == "cordoned"]
    others = [n for n in nodes if n.problem not in ("", "cordoned")]
    rules = (
        (f"nodes are cordoned: {_some([n.name for n in cordoned])}", "Uncordon them once they are well", cordoned),
        (
            f"nodes are not ready: {_some([f'{n.name} ({n.problem})' for n in others])}",
            "Repair them: see `kubectl describe node`",
            others,
        ),
    )
    for rule, action, problems in rules:
        names = {n.name for n in problems}
        opened = [replace(n, problem="") if n.name in names else n for n in nodes]
        yield _Obstacle(rule if problems else "", action, demands, opened)


def _repaired(node: Node) -> Node:
    """The same node with every problem solved and every GPU healthy."""
    devices = {**node.devices, node.gpu: node.devices[node.gpu] + node.lost}
    return replace(node, problem="", devices=devices, lost=0)


def _kind(spec: DeploymentSpec, demands: Sequence[Demand], room: NodeCapacity) -> CheckResult:
    name = "kind of GPU"
    # A cluster may have several kinds: what counts is where workers may go.
    nodes = [n for n in room.nodes if any(d.devices() and n.takes(d) for d in demands)] or room.nodes
    products = ", ".join(sorted({n.product for n in nodes if n.product}))
    shared = [f"{n.name} by {n.shared_by}" for n in nodes if n.shared_by > 1]
    if shared:
        finding = Finding(
            field="hardware",
            value=spec.hardware.name,
            rule=f"GPUs are shared by several pods ({_some(shared)}): memory and speed of one are not its own",
            suggestion="Turn time slicing or MPS off for these nodes, or select others by gpu_node_selector",
            severity="warning",
        )
        return CheckResult(name, products, (finding,))
    sizes = [n.gpu_gib for n in nodes if n.gpu_gib is not None]
    if not sizes:
        return CheckResult(name, f"nodes have no label {spec.hardware.gpu.resource}.memory", made=False)
    if min(sizes) >= spec.hardware.gpu.memory_gib * _SAME_MEMORY:
        return CheckResult(name, f"{products}, {min(sizes):.0f} GiB")
    rule = f"counts on {spec.hardware.gpu.memory_gib:.0f} GiB per GPU, and nodes have {min(sizes):.0f} ({products})"
    finding = Finding(
        field="hardware",
        value=spec.hardware.name,
        rule=rule,
        suggestion="Choose the profile of the GPUs that are there, or select nodes by gpu_node_selector",
        severity="warning",
    )
    return CheckResult(name, products, (finding,))


def _rdma(spec: DeploymentSpec, options: ClusterOptions, demands: Sequence[Demand], room: NodeCapacity) -> CheckResult:
    name = "RDMA"
    gpu = spec.hardware.gpu.resource
    wanted = {resource: n for d in demands for resource, n in d.devices().items() if resource != gpu}
    if not wanted:
        return CheckResult(name, f"none is asked for: {_without_rdma(spec)}")
    rules = [rule for resource, each in wanted.items() if (rule := _lacks(resource, each, demands, room.nodes, gpu))]
    suggestion = "Set rdma_resource to the one that the network's device plugin offers, or rdma_per_gpu to less"
    if not rules and not unplaced(_gpus_only(demands, gpu), room.nodes) and unplaced(demands, room.nodes):
        rules = ["the nodes with free GPUs are not those that offer it"]
        suggestion = "Select the nodes that have both by gpu_node_selector, or free GPUs there"
    findings = [
        Finding(
            field="rdma_resource",
            value=", ".join(wanted),
            rule=rule,
            suggestion=suggestion,
            severity="warning" if options.autoscaled else "error",
        )
        for rule in rules
    ]
    return CheckResult(name, ", ".join(f"{n} x {r} per pod" for r, n in wanted.items()), tuple(findings))


def _without_rdma(spec: DeploymentSpec) -> str:
    """Why a deployment may do without RDMA devices."""
    nodes = max(worker.layout.nodes for worker in spec.workers)
    if nodes == 1:
        return "no worker leaves its node"
    return f"workers of {nodes} nodes reach each other over NVLink, or over networks that pod_annotations attach"


def _lacks(resource: str, each: int, demands: Sequence[Demand], nodes: Sequence[Node], gpu: str) -> str | None:
    """The rule that is broken when nodes do not offer enough of a resource, whoever may use them."""
    able = [n for n in nodes if n.devices.get(resource, 0) >= each]
    if len(able) == len(nodes):
        return None  # Too few nodes, if there are, is the line of the GPUs.
    only = [
        d._replace(limits={resource: d.limits[resource]}, selector={}, tolerations=_EVERYTHING)
        for d in demands
        if resource in d.limits
    ]
    if not unplaced(only, [replace(node, problem="") for node in nodes], empty=True):
        return None
    offered = sorted({r for n in nodes for r in n.devices if r != gpu})
    return f"{len(able)} of {len(nodes)} GPU nodes offer {each} of it; they offer {_some(offered)}"


def _gpus_only(demands: Sequence[Demand], gpu: str) -> list[Demand]:
    return [d._replace(limits={k: v for k, v in d.limits.items() if k == gpu}) for d in demands]


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return (", ".join(names[:_NAMED]) or "none") + (f" and {more} more" if more > 0 else "")
