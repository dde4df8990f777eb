"""The rules of all engines that a deployment must satisfy before anything is launched."""

from __future__ import annotations

from collections import Counter

from wideloop.manifests import published_errors, recorder
from wideloop.manifests.deployment import DeploymentSpec, WorkerSpec
from wideloop.manifests.findings import Finding
from wideloop.manifests.model import ModelSpec


def validate(spec: DeploymentSpec) -> list[Finding]:
    """Static findings about ``spec``; memory is judged by ``wideloop.tuning.memory.findings``."""
    findings = (
        _roles(spec)
        + _capacity(spec)
        + recorder.recorder_findings(spec)
        + published_errors.published_error_findings(spec)
    )
    for worker in spec.workers:
        findings += _layout(worker) + _experts(spec.model, worker) + _knobs(worker)
    return findings


def nearest_redundant(experts: int, ep: int, redundant: int) -> tuple[int, ...]:
    """The valid numbers of redundant experts next to ``redundant``: the one below (if any) and above."""
    above = redundant + -(experts + redundant) % ep
    below = above - ep
    return (below, above) if below >= 0 else (above,)


def _roles(spec: DeploymentSpec) -> list[Finding]:
    counts = Counter(w.role for w in spec.workers)
    findings = [
        Finding(field="workers", value=role, rule="a role can occur once", suggestion="Use replicas for more of one")
        for role, count in counts.items()
        if count > 1
    ]
    roles = set(counts)
    if roles not in ({"prefill", "decode"}, {"aggregated"}):
        findings.append(
            Finding(
                field="workers",
                value=sorted(roles),
                rule="a deployment has prefill and decode workers, or aggregated ones",
                suggestion="Use prefill + decode, or aggregated alone",
            )
        )
    return findings


def _capacity(spec: DeploymentSpec) -> list[Finding]:
    hardware = spec.hardware
    findings = []
    if spec.gpus > hardware.gpus:
        findings.append(
            Finding(
                field="workers",
                value=f"{spec.gpus} GPUs",
                rule=f"profile {hardware.name} has {hardware.gpus} GPUs",
                suggestion=f"Use at most {hardware.gpus} GPUs in all, or a larger profile",
            )
        )
    findings += [
        Finding(
            field=f"{w.role}.gpus_per_node",
            value=w.layout.gpus_per_node,
            rule=f"a node of {hardware.name} has {hardware.gpus_per_node} GPUs",
            suggestion=f"Use at most {hardware.gpus_per_node} and more nodes",
        )
        for w in spec.workers
        if w.layout.gpus_per_node > hardware.gpus_per_node
    ]
    return findings


def _layout(worker: WorkerSpec) -> list[Finding]:
    layout, role = worker.layout, worker.role
    findings = []
    if layout.tp != layout.gpus:
        findings.append(_finding(f"{role}.tp", layout.tp, "must be the number of the worker's GPUs", layout.gpus))
    if layout.gpus % layout.ep:
        best = _largest_divisor(layout.gpus, layout.ep)
        findings.append(_finding(f"{role}.ep", layout.ep, f"must divide the worker's {layout.gpus} GPUs", best))
    if layout.tp % layout.dp:
        best = _largest_divisor(layout.tp, layout.dp)
        findings.append(_finding(f"{role}.dp", layout.dp, f"must divide TP {layout.tp}", best))
    return findings


def _experts(model: ModelSpec, worker: WorkerSpec) -> list[Finding]:
    redundant, ep = worker.knobs.redundant_experts, worker.layout.ep
    if (model.num_experts + redundant) % ep == 0:
        return []
    valid = " or ".join(map(str, nearest_redundant(model.num_experts, ep, redundant)))
    rule = (
        f"({model.num_experts} experts + redundant) must divide by EP {ep}{published_errors.redundancy(redundant, ep)}"
    )
    return [_finding(f"{worker.role}.redundant_experts", redundant, rule, valid)]


def _knobs(worker: WorkerSpec) -> list[Finding]:
    knobs, role = worker.knobs, worker.role
    findings = []
    fraction = knobs.mem_fraction_static
    if fraction is not None and not 0 < fraction < 1:
        findings.append(_finding(f"{role}.mem_fraction_static", fraction, "must be between 0 and 1", 0.8))
    dispatch, graph = knobs.deepep_dispatch_tokens, knobs.cuda_graph_max_bs
    if dispatch is not None and graph is not None and knobs.deepep_mode == "low_latency" and graph > dispatch:
        rule = f"DeepEP dispatches at most {dispatch} tokens per rank, and a graph is captured for each batch"
        findings.append(_finding(f"{role}.cuda_graph_max_bs", graph, rule, dispatch))
    if knobs.eplb == "static" and knobs.expert_placement is None:
        rule = "static EPLB needs an expert_placement file"
        findings.append(_finding(f"{role}.eplb", knobs.eplb, rule, "'off', or a placement made from a recording"))
    return findings


def _largest_divisor(number: int, at_most: int) -> int:
    return next(d for d in range(min(number, max(at_most, 1)), 0, -1) if number % d == 0)


def _finding(field: str, value: object, rule: str, works: object) -> Finding:
    return Finding(field=field, value=value, rule=rule, suggestion=f"Use {works}")
