"""How SGLang divides a worker's GPU memory, and when it runs out of it.

``KV = usable * mem_fraction_static - weights``; everything else is taken from the remaining memory. docs/memory.md
compares the prediction with 34 servers that ran.
"""

from __future__ import annotations

from wideloop.manifests.deployment import WorkerSpec
from wideloop.manifests.engines.sglang_flags import captures_decode, dispatch_tokens
from wideloop.manifests.engines.sglang_memory.pools import (
    cache_share,
    cell_bytes,
    communicators_gib,
    request_table_gib,
    runtime_gib,
)
from wideloop.manifests.engines.sglang_memory.runtime import activation_gib, graph_gib
from wideloop.manifests.hardware import GpuSpec
from wideloop.manifests.memory import (
    GIB,
    MemoryConstants,
    MemoryModel,
    OomStage,
    WorkerMemory,
    deepep,
    weights,
)
from wideloop.manifests.model import ModelSpec

#: Constants from the engine's sources alone, without any measurement.
UNCALIBRATED = MemoryConstants(
    runtime_gib=0.0, list_bytes_per_token=8.0, graph_gib=0.0, graph_node_kib=0.0, hidden_tensors=6.0, nccl_gib=0.0
)
#: Fitted to every other of 34 servers (SGLang 0.5.17, two H200, EP 2); docs/memory.md has the errors on the rest.
CONSTANTS = MemoryConstants(
    runtime_gib=0.096,
    list_bytes_per_token=64.2,
    graph_gib=0.047,
    graph_node_kib=344.0,
    hidden_tensors=6.75,
    nccl_gib=0.569,
)


class SglangMemory(MemoryModel):
    """SGLang's arithmetic, with the constants that were fitted to its servers."""

    def __init__(self, constants: MemoryConstants = CONSTANTS, uncalibrated: MemoryConstants = UNCALIBRATED) -> None:
        super().__init__(constants, uncalibrated)

    def worker(self, model: ModelSpec, gpu: GpuSpec, worker: WorkerSpec) -> WorkerMemory:
        return worker_memory(model, gpu, worker, self.constants)

    def graphs_gib(self, model: ModelSpec, worker: WorkerSpec, max_bs: int) -> float:
        return graph_gib(model, worker, max_bs, self.constants)

    def request_table_gib(self, model: ModelSpec, worker: WorkerSpec, kv_tokens: int) -> float:
        return request_table_gib(model, worker, kv_tokens)


def worker_memory(model: ModelSpec, gpu: GpuSpec, worker: WorkerSpec, constants: MemoryConstants) -> WorkerMemory:
    """Memory of one GPU of ``worker``; ValueError when memory fraction, graph batch or chunk is not resolved."""
    knobs = worker.knobs
    fraction, max_bs, chunk = knobs.mem_fraction_static, knobs.cuda_graph_max_bs, knobs.chunked_prefill_size
    if fraction is None or max_bs is None or chunk is None:
        raise ValueError(f"the {worker.role} worker's knobs are not resolved: {knobs}")
    loaded = weights(model, worker)
    usable = gpu.usable_gib - communicators_gib(worker)
    kv = (usable * fraction - loaded.total) * cache_share(model)
    per_token = cell_bytes(model, worker)
    tokens = max(int(kv * GIB / per_token), 0)
    tables = request_table_gib(model, worker, tokens) + runtime_gib(tokens, constants)
    graphs = graph_gib(model, worker, max_bs, constants)
    buffers = deepep.buffer_gib(model, worker, dispatch_tokens(worker.knobs))
    activations = activation_gib(model, worker, chunk, max_bs, constants)
    first_use = constants.nccl_gib + constants.warm_up_gib
    free = usable * (1 - fraction) - tables - graphs - buffers
    stage, deficit = _oom_stage(kv, free, first_use, activations, captured=captures_decode(worker))
    return WorkerMemory(
        usable_gib=usable,
        attention_gib=loaded.other,
        experts_gib=loaded.experts,
        graphs_gib=graphs,
        activations_gib=activations,
        kv_gib=max(kv, 0.0),
        kv_tokens=tokens,
        kv_bytes_per_token=per_token,
        tables_gib=tables,
        deepep_gib=buffers,
        free_at_ready_gib=free,
        first_use_gib=first_use,
        minimum_fraction=loaded.total / usable,
        oom_stage=stage,
        deficit_gib=deficit,
    )


def _oom_stage(
    kv: float, free: float, first_use: float, activations: float, *, captured: bool
) -> tuple[OomStage | None, float]:
    if kv <= 0:
        return "no_kv_left", -kv
    if free < 0 and captured:
        return "capture", -free
    if free < first_use:
        return "warm_up", first_use - free
    if free < first_use + activations:
        return "under_load", first_use + activations - free
    return None, 0.0
