"""To which nodes the pods of a deployment may go, and which they prefer."""

from __future__ import annotations

from typing import Any

from wideloop.manifests.deployment import DeploymentSpec, WorkerSpec
from wideloop.manifests.engines import get_engine
from wideloop.manifests.kubernetes.labels import labels
from wideloop.manifests.kubernetes.options import ClusterOptions

_ARCH = "kubernetes.io/arch"
_MOST = 100


def worker_placement(spec: DeploymentSpec, options: ClusterOptions, worker: WorkerSpec) -> dict[str, Any]:
    """Fields of a worker's pod: tolerations, and the nodes that it may go to."""
    gpu = {"key": spec.hardware.gpu.resource, "operator": "Exists", "effect": "NoSchedule"}
    placed: dict[str, Any] = {"tolerations": [gpu, *options.tolerations, *_arch_toleration(spec)]}
    if selector := {**_arch_selector(spec), **options.gpu_node_selector}:
        placed["nodeSelector"] = selector
    if affinity := {**_required_labels(options), **_near_each_other(spec, options, worker)}:
        placed["affinity"] = affinity
    return placed


def frontend_placement(spec: DeploymentSpec, options: ClusterOptions) -> dict[str, Any]:
    """The same of the frontend: nodes without GPUs where there are some, to leave CPUs to the workers."""
    without = {"key": f"{spec.hardware.gpu.resource}.present", "operator": "NotIn", "values": ["true"]}
    preferred = [{"weight": _MOST, "preference": {"matchExpressions": [without]}}]
    placed: dict[str, Any] = {
        "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}
    }
    if selector := {**_arch_selector(spec), **options.cpu_node_selector}:
        placed["nodeSelector"] = selector
    if _arch_selector(spec):
        # Nodes of that architecture may all have GPUs.
        gpu = {"key": spec.hardware.gpu.resource, "operator": "Exists", "effect": "NoSchedule"}
        placed["tolerations"] = [gpu, *_arch_toleration(spec)]
    return placed


def _arch_selector(spec: DeploymentSpec) -> dict[str, str]:
    """The architecture of the engine's image, where it is not the usual one; the simulated engine's is any."""
    arch = spec.hardware.gpu.arch
    return {} if arch == "amd64" or get_engine(spec.engine).simulated else {_ARCH: arch}


def _arch_toleration(spec: DeploymentSpec) -> list[dict[str, str]]:
    """GKE keeps pods that do not ask for it off such nodes."""
    return [
        {"key": _ARCH, "operator": "Equal", "value": arch, "effect": "NoSchedule"}
        for arch in _arch_selector(spec).values()
    ]


def _required_labels(options: ClusterOptions) -> dict[str, Any]:
    if not options.required_node_labels:
        return {}
    terms = [{"matchExpressions": [{"key": key, "operator": "Exists"} for key in options.required_node_labels]}]
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}


def _near_each_other(spec: DeploymentSpec, options: ClusterOptions, worker: WorkerSpec) -> dict[str, Any]:
    """A preference only: a worker whose nodes lie apart is slower, one that does not start is worth nothing."""
    if worker.layout.nodes == 1 or not options.topology_keys:
        return {}
    same = {"matchLabels": labels(spec.name, component=worker.role)}
    terms = [
        {
            "weight": max(1, _MOST // 2**number),
            "podAffinityTerm": {"labelSelector": same, "topologyKey": key},
        }
        for number, key in enumerate(options.topology_keys)
    ]
    return {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": terms}}
