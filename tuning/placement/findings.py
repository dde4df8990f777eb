"""Checks of the placement files that a deployment names, before anything is launched."""

from __future__ import annotations

from pathlib import Path

from wideloop.manifests.deployment import DeploymentSpec, WorkerSpec
from wideloop.manifests.errors import Refused
from wideloop.manifests.findings import Finding
from wideloop.tuning.placement import files


def placement_findings(spec: DeploymentSpec) -> list[Finding]:
    """What is wrong with the placement file of each worker that has one; engines find out after loading the model."""
    return [finding for worker in spec.workers for finding in _worker(spec, worker)]


def _worker(spec: DeploymentSpec, worker: WorkerSpec) -> list[Finding]:
    knobs, model = worker.knobs, spec.model
    if knobs.expert_placement is None:
        return []
    field = f"{worker.role}.expert_placement"
    try:
        file = Path(knobs.expert_placement)
        placed = files.read(file, worker.layout.ep, model.num_experts, layers=model.num_layers).slots
    except Refused as refused:
        return [finding.changed(field=field) for finding in refused.findings]
    slots = model.num_experts + knobs.redundant_experts
    if placed == slots:
        return []
    rule = f"places {placed} slots, and {model.num_experts} experts + {knobs.redundant_experts} redundant are {slots}"
    suggestion = f"Use redundant_experts {placed - model.num_experts}, or a placement made for {slots} slots"
    return [Finding(field=field, value=knobs.expert_placement, rule=rule, suggestion=suggestion)]
