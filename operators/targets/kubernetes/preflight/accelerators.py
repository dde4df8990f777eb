"""Whether the cluster's GPUs and RDMA devices are those of the hardware profile, and free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

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
    """Why pods find no node, and what to do: the mildest cause that explains it."""
    if not nodes:
        install = f"Install {gpu.vendor.upper()}'s GPU operator, or check that GPU nodes have joined"
        return f"no node offers {gpu.resource}", install
    if not unplaced(demands, nodes, empty=True):
        holders = [holder for node in nodes for holder in node.holders]
        return f"others hold them: {_some(holders)}", "Wait for them, delete them, or choose a smaller profile"
    if not unplaced([d._replace(selector={}) for d in demands], nodes, empty=True):
        return "too few nodes carry the labels of gpu_node_selector", f"Correct it: {dict(failed.selector)}"
    if not unplaced([d._replace(tolerations=({"operator": "Exists"},)) for d in demands], nodes, empty=True):
        taints = sorted({taint for node in nodes for taint in node.shut_by(failed)})
        return f"nodes are tainted: {_some(taints)}", "Add them to tolerations, or remove the taints"
    if not unplaced(demands, [replace(node, ready=True) for node in nodes], empty=True):
        names = [node.name for node in nodes if not node.ready]
        return f"nodes are not ready or cordoned: {_some(names)}", "Uncordon or repair them"
    largest = max(node.devices[gpu.resource] for node in nodes)
    each = failed.devices()[gpu.resource]
    if largest < each:
        action = f"Choose a profile with {largest} GPUs per node, or one of fewer GPUs"
        return f"no node has {each} (the largest has {largest})", action
    return "there are too few", "Add nodes, or choose a smaller hardware profile"


def _kind(spec: DeploymentSpec, demands: Sequence[Demand], room: NodeCapacity) -> CheckResult:
    name = "kind of GPU"
    # A cluster may have several kinds: what counts is where workers may go.
    nodes = [n for n in room.nodes if any(d.devices() and n.takes(d) for d in demands)] or room.nodes
    products = ", ".join(sorted({n.product for n in nodes if n.product}))
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
        return CheckResult(name, "none is asked for: no worker leaves its node")
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


def _lacks(resource: str, each: int, demands: Sequence[Demand], nodes: Sequence[Node], gpu: str) -> str | None:
    """The rule that is broken when nodes do not offer enough of a resource, whoever may use them."""
    everywhere = ({"operator": "Exists"},)
    only = [
        d._replace(limits={resource: d.limits[resource]}, selector={}, tolerations=everywhere)
        for d in demands
        if resource in d.limits
    ]
    if not unplaced(only, nodes, empty=True):
        return None
    able = [n for n in nodes if n.devices.get(resource, 0) >= each]
    offered = sorted({r for n in nodes for r in n.devices if r != gpu})
    return f"{len(able)} of {len(nodes)} GPU nodes offer {each} of it; they offer {_some(offered)}"


def _gpus_only(demands: Sequence[Demand], gpu: str) -> list[Demand]:
    return [d._replace(limits={k: v for k, v in d.limits.items() if k == gpu}) for d in demands]


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return (", ".join(names[:_NAMED]) or "none") + (f" and {more} more" if more > 0 else "")
