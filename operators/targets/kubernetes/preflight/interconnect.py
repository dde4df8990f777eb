"""How workers reach other nodes: the profile's fabric, the provider's networks, and the domain of NVLink."""

from __future__ import annotations

from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.findings import Finding
from wideloop.manifests.kubernetes.compute_domain import GROUP, channel_template, compute_domain, spans_nvlink
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.manifests.kubernetes.providers import NONE, with_provider
from wideloop.operators.targets.kubernetes.preflight.api_groups import ApiGroups
from wideloop.operators.targets.kubernetes.preflight.check_result import CheckResult

_DRA = "resource.k8s.io"
#: Annotations by which a network plug-in attaches networks to a pod, and the API group that this plug-in serves.
_NETWORKS = {"networking.gke.io/interfaces": "networking.gke.io", "k8s.v1.cni.cncf.io/networks": "k8s.cni.cncf.io"}


def check_network(options: ClusterOptions, spec: DeploymentSpec, groups: ApiGroups) -> list[CheckResult]:
    """Fabric and overlay, and the ComputeDomain where workers span an NVLink domain."""
    provider = options.provider or spec.hardware.provider or NONE
    merged = with_provider(options, spec)
    wide = [w.role for w in spec.workers if w.layout.nodes > 1]
    fabric = f"{spec.hardware.fabric}, {spec.hardware.fabric_gb_s:g} GB/s per GPU"
    ways = (fabric if wide else "no worker spans nodes", f"provider overlay: {provider}")
    text = "; ".join((*ways, "the hosts' network") if merged.host_network else ways)
    findings = tuple(
        Finding(
            field="pod_annotations",
            value=annotation,
            rule=f"attaches networks, and the cluster does not serve {group}: pods would start without them",
            suggestion="Set provider to that of this cluster, or to none",
            severity="warning",
        )
        for annotation, group in _NETWORKS.items()
        if annotation in merged.pod_annotations and group not in groups
    )
    return [CheckResult("network", text, findings), *_domain(merged, spec, groups)]


def _domain(options: ClusterOptions, spec: DeploymentSpec, groups: ApiGroups) -> list[CheckResult]:
    name = "NVLink domain"
    if not any(spans_nvlink(spec, w) for w in spec.workers):
        return []
    template = channel_template(spec, options)
    if template is None:
        return [CheckResult(name, "the cluster joins its nodes by itself (compute_domain is false)")]
    if not compute_domain(spec, options):
        return [CheckResult(name, f"claim template {template} is used")]
    missing = [group for group in (_DRA, GROUP) if group not in groups]
    if not missing:
        return [CheckResult(name, f"a ComputeDomain ({GROUP}/{', '.join(groups[GROUP])}) is made for each deployment")]
    finding = Finding(
        field="compute_domain",
        value=True,
        rule=f"workers span nodes of one NVLink domain, and the cluster does not serve {' and '.join(missing)}",
        suggestion="Install NVIDIA's DRA driver for GPUs (25.8 or later), name an existing claim template in "
        "compute_domain_claim, or set compute_domain to false where the nodes' IMEX daemons are joined by other means",
    )
    return [CheckResult(name, "missing", (finding,))]
