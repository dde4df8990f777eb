"""Which nodes keep a deployment's pods from being scheduled: the scheduler counts over all of them and names none."""

from __future__ import annotations

from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.diagnosis import Diagnosis
from wideloop.manifests.errors import ApiRefused
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.operators.targets.kubernetes.api import Api
from wideloop.operators.targets.kubernetes.platform import Platform
from wideloop.operators.targets.kubernetes.preflight.accelerators import check_accelerators
from wideloop.operators.targets.kubernetes.preflight.node_capacity import survey


def with_nodes_named(
    diagnosis: Diagnosis, api: Api, options: ClusterOptions, platform: Platform, spec: DeploymentSpec
) -> Diagnosis:
    """The diagnosis of pods that find no node, with what the nodes themselves say; unchanged where they say nothing."""
    try:
        capacity = survey(api, options.namespace, spec.name, spec.hardware.gpu.resource)
    except ApiRefused as error:
        if error.status != 403:
            raise
        return diagnosis
    gpus, _, rdma = check_accelerators(spec, options, platform.demands(spec, options), capacity)
    # Both may be short; the scheduler says which of them these pods met first.
    findings = (*rdma.findings, *gpus.findings) if "RDMA" in diagnosis.action else (*gpus.findings, *rdma.findings)
    if not findings:
        return diagnosis
    action = diagnosis.action if findings[0] in rdma.findings else findings[0].suggestion
    return diagnosis.changed(message=f"{diagnosis.message} On the GPU nodes: {findings[0].rule}", action=action)
