"""The ComputeDomain of a deployment: the nodes of an NVLink domain that may map each other's GPU memory.

Shape read in the API reference of NVIDIA's DRA driver for GPUs (``resource.nvidia.com/v1beta1``). Its controller makes
the ResourceClaimTemplate that pods name, and joins the nodes to which these go.
"""

from __future__ import annotations

from typing import Any

from wideloop.manifests.deployment import DeploymentSpec, WorkerSpec
from wideloop.manifests.engines import get_engine
from wideloop.manifests.kubernetes.labels import labels
from wideloop.manifests.kubernetes.options import ClusterOptions

GROUP = "resource.nvidia.com"
API_VERSION = f"{GROUP}/v1beta1"
KIND = "ComputeDomain"
#: Name of the claim in a pod.
CHANNEL = "compute-domain"


def spans_nvlink(spec: DeploymentSpec, worker: WorkerSpec) -> bool:
    """Whether a worker's nodes talk over NVLink."""
    return worker.layout.nodes > 1 and spec.hardware.fabric == "NVLink"


def channel_template(spec: DeploymentSpec, options: ClusterOptions) -> str | None:
    """The ResourceClaimTemplate that workers over several nodes name; None: the cluster joins its nodes by itself.

    The simulated engine moves no data between GPUs, and needs none of its own.
    """
    if options.compute_domain_claim:
        return options.compute_domain_claim
    return f"{spec.name}-channel" if _has_own(spec, options) else None


def compute_domain(spec: DeploymentSpec, options: ClusterOptions) -> list[dict[str, Any]]:
    """The deployment's own ComputeDomain, in a list; empty where it needs none."""
    if options.compute_domain_claim or not _has_own(spec, options):
        return []
    return [
        {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {
                "name": f"{spec.name}-domain",
                "namespace": options.namespace,
                "labels": labels(spec.name),
            },
            "spec": {
                # Deprecated and required: with any other number, pods would wait for that many nodes to join.
                "numNodes": 0,
                "channel": {"resourceClaimTemplate": {"name": f"{spec.name}-channel"}},
            },
        }
    ]


def _has_own(spec: DeploymentSpec, options: ClusterOptions) -> bool:
    real = not get_engine(spec.engine).simulated
    return options.compute_domain and real and any(spans_nvlink(spec, w) for w in spec.workers)
