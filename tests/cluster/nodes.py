"""Nodes with GPUs that do not exist, as documents: one set for each hardware profile."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from wideloop.manifests import profiles
from wideloop.manifests.hardware import HardwareProfile
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.manifests.kubernetes.providers import NONE, with_overlay

from tests.cluster.agent.compute_domains import CLIQUE

Document = dict[str, Any]

#: What one host of each kind has besides its GPUs; enough for any pod that asks for whole GPUs.
_CPUS = 192
_MEMORY_GIB = 2048
_DISK_GIB = 8192
_PODS = 110
#: RDMA devices a shared device plug-in hands out on a node.
_RDMA_DEVICES = 1000


def gpu_nodes(profile: HardwareProfile, prefix: str) -> Iterator[Document]:
    """The hosts of ``profile``, named ``<prefix>-<n>``, labelled by GPU feature discovery and provider."""
    options = with_overlay(ClusterOptions(), profile.provider or NONE)
    resources = {"nvidia.com/gpu": str(profile.gpus_per_node)}
    if profile.rdma_resource:
        resources[profile.rdma_resource] = str(_RDMA_DEVICES)
    labels = {
        "nvidia.com/gpu.present": "true",
        "nvidia.com/gpu.count": str(profile.gpus_per_node),
        "nvidia.com/gpu.product": profile.gpu.name.replace(" ", "-"),
        "nvidia.com/gpu.memory": str(round(profile.gpu.memory_gib * 1024)),
        "kubernetes.io/arch": profile.gpu.arch,
        **(options.gpu_node_selector | dict.fromkeys(options.required_node_labels, "domain-0")),
    }
    if profile.nodes > 1 and profile.fabric == "NVLink":
        labels[CLIQUE] = f"{prefix}.0"
    for number in range(profile.nodes):
        yield node(f"{prefix}-{number}", resources, labels)


def many(count: int, prefix: str) -> Iterator[Document]:
    """A large cluster: ``count`` hosts of eight H200 with RDMA."""
    host = profiles.hardware("h200-8").model_copy(update={"nodes": count, "rdma_resource": "rdma/ib"})
    return gpu_nodes(host, prefix)


def node(name: str, resources: dict[str, str] | None = None, labels: dict[str, str] | None = None) -> Document:
    """A ready node; ``resources`` are what it has besides CPUs, memory, disk and room for pods."""
    capacity = {"cpu": str(_CPUS), "memory": f"{_MEMORY_GIB}Gi", "ephemeral-storage": f"{_DISK_GIB}Gi"}
    capacity |= {"pods": str(_PODS)} | (resources or {})
    well_known = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": well_known | (labels or {})},
        "status": {"capacity": capacity, "allocatable": capacity, "conditions": [_ready()]},
    }


def _ready() -> Document:
    moment = "2026-01-01T00:00:00Z"
    text = "a node of the tests"
    return {
        "type": "Ready",
        "status": "True",
        "reason": "KubeletReady",
        "message": text,
        "lastHeartbeatTime": moment,
        "lastTransitionTime": moment,
    }
