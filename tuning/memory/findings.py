"""Findings about workers that lack memory, with a value that would work."""

from __future__ import annotations

import math

from wideloop.manifests import published_errors
from wideloop.manifests.deployment import DeploymentSpec, WorkerSpec
from wideloop.manifests.engines import get_engine
from wideloop.manifests.findings import Finding
from wideloop.manifests.memory import WorkerMemory, weights
from wideloop.manifests.model import ModelSpec

_RULES = {
    "no_kv_left": "leaves no memory for the KV cache",
    "capture": "leaves too little for the CUDA graphs",
    "warm_up": "leaves too little for NCCL at the warm-up request",
    "under_load": "leaves too little for the activations of a full batch",
}


def worker_memory(spec: DeploymentSpec, worker: WorkerSpec) -> WorkerMemory:
    """Memory of one GPU of ``worker`` of ``spec``, by the arithmetic of its engine; knobs must be resolved.

    Raises:
        ValueError: a knob is not resolved.
    """
    return get_engine(spec.engine).memory_model.worker(spec.model, spec.hardware.gpu, worker)


def memory_findings(spec: DeploymentSpec) -> list[Finding]:
    """Findings for workers that do not fit, whatever their knobs or because of them; ``spec`` must be resolved.

    A model whose weights leave no memory is an error, with hardware that would fit. A worker that runs out of memory
    only because of its knobs is infeasible: a sweep may try such points on purpose.
    """
    return [f for worker in spec.workers for f in _worker_findings(spec, worker)]


def _worker_findings(spec: DeploymentSpec, worker: WorkerSpec) -> list[Finding]:
    memory = worker_memory(spec, worker)
    gpu = spec.hardware.gpu
    bare = worker.changed(knobs=worker.knobs.changed(redundant_experts=0))
    need = weights(spec.model, bare).total
    room = gpu.usable_gib - memory.first_use_gib
    if need >= room:
        return [
            Finding(
                field=f"{worker.role}.hardware",
                value=f"{spec.model.name} on {worker.layout.gpus} x {gpu.name}",
                rule=f"its weights take {need:.1f} GiB per GPU, of which {room:.1f} can be used"
                + published_errors.too_small(worker, gpu),
                suggestion=_would_fit(spec.model, worker, room),
            )
        ]
    if memory.fits:
        return []
    return [_knob_finding(spec, worker, memory)]


def _knob_finding(spec: DeploymentSpec, worker: WorkerSpec, memory: WorkerMemory) -> Finding:
    # Rounded inwards, so that both ends work.
    low = math.ceil(memory.minimum_fraction * 1000 + 0.001) / 1000
    high = math.floor(_largest_fraction(spec, worker, memory) * 1000) / 1000
    if low < high:
        suggestion = f"A mem_fraction_static between {low:.3f} and {high:.3f} works"
    else:
        suggestion = "No mem_fraction_static works: fewer redundant experts or a smaller cuda_graph_max_bs would"
    return Finding(
        field=f"{worker.role}.mem_fraction_static",
        value=worker.knobs.mem_fraction_static,
        rule=f"{_RULES[memory.oom_stage or 'capture']}: {memory.deficit_gib:.2f} GiB per GPU missing",
        suggestion=suggestion,
        severity="infeasible",
    )


def _largest_fraction(spec: DeploymentSpec, worker: WorkerSpec, memory: WorkerMemory) -> float:
    """The largest fraction that fits, computed in two steps because the tables grow with the KV cache."""
    fraction = 1 - memory.reserve_gib / memory.usable_gib
    if not 0 < fraction < 1:
        return 0.0
    there = worker_memory(spec, worker.changed(knobs=worker.knobs.changed(mem_fraction_static=fraction)))
    return 1 - max(memory.reserve_gib, there.reserve_gib) / memory.usable_gib


def _would_fit(model: ModelSpec, worker: WorkerSpec, room: float) -> str:
    """The smallest power-of-two worker of this GPU that holds the weights with a tenth left for KV cache."""
    gpus = worker.layout.gpus
    while gpus < 1024:
        gpus *= 2
        dp = gpus if worker.layout.dp > 1 else 1
        layout = worker.layout.changed(nodes=1, gpus_per_node=gpus, tp=gpus, dp=dp, ep=gpus)
        wider = worker.changed(layout=layout, knobs=worker.knobs.changed(redundant_experts=0))
        need = weights(model, wider).total
        if need < 0.9 * room and model.num_experts % gpus == 0:
            return (
                f"{gpus} such GPUs per {worker.role} worker would hold it ({need:.1f} GiB each), or fewer larger ones"
            )
    return "Use GPUs with more memory, a smaller model or one in fewer bits"
