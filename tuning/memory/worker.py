"""How a worker's GPU memory divides, and how SGLang dies when it does not suffice.

The arithmetic is SGLang's own: ``KV = usable * mem_fraction_static - weights``, and everything else comes out of
what is left. One GPU of the worker stands for all: the layout is symmetric. docs/memory.md holds it against 34
servers that ran.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from wideloop.manifests.deployment import WorkerSpec
from wideloop.manifests.engines.sglang_flags import captures_decode
from wideloop.manifests.hardware import GpuSpec
from wideloop.manifests.model import ModelSpec
from wideloop.tuning.memory import deepep
from wideloop.tuning.memory.constants import CONSTANTS, GIB, MemoryConstants
from wideloop.tuning.memory.pools import kv_bytes_per_gpu, request_table_gib, runtime_gib
from wideloop.tuning.memory.runtime import activation_gib, graph_gib
from wideloop.tuning.memory.weights import weights

Face = Literal["capture", "no_kv_left", "warm_up", "under_load"]


@dataclass(frozen=True)
class WorkerMemory:
    """GiB per GPU of one worker, and what follows from them.

    Attributes:
        usable_gib: free when loading begins; mem_fraction_static is a fraction of it.
        attention_gib: all weights but the routed experts.
        kv_tokens: tokens of KV cache per attention-DP rank.
        kv_bytes_per_token: on one GPU.
        tables_gib: the table of requests, lists of free slots and what else is allocated before capture.
        deepep_gib: DeepEP's communication buffers.
        free_at_ready_gib: left once the worker answers, before NCCL's first use and load.
        first_use_gib: what the warm-up request takes of that for good: NCCL's channels and slack.
        activations_gib: what the largest batch needs on top.
        minimum_fraction: ``mem_fraction_static`` below which no KV cache is left.
        face: how it dies, None when it fits.
        deficit_gib: memory missing for that face to go away, 0 when it fits.
    """

    usable_gib: float
    attention_gib: float
    experts_gib: float
    graphs_gib: float
    activations_gib: float
    kv_gib: float
    kv_tokens: int
    kv_bytes_per_token: int
    tables_gib: float
    deepep_gib: float
    free_at_ready_gib: float
    first_use_gib: float
    minimum_fraction: float
    face: Face | None
    deficit_gib: float

    @property
    def weights_gib(self) -> float:
        """Everything loaded: attention, embeddings, dense layers, routers and expert slots."""
        return self.attention_gib + self.experts_gib

    @property
    def reserve_gib(self) -> float:
        """What has to stay outside weights and KV cache for the worker to run under load."""
        beside = self.graphs_gib + self.tables_gib + self.deepep_gib
        return beside + self.first_use_gib + self.activations_gib

    @property
    def fits(self) -> bool:
        return self.face is None


def worker_memory(
    model: ModelSpec, gpu: GpuSpec, worker: WorkerSpec, constants: MemoryConstants = CONSTANTS
) -> WorkerMemory:
    """Memory of one GPU of ``worker``, whose knobs must be resolved (no ``None`` among the three sizes).

    Raises:
        ValueError: a knob is not resolved.
    """
    knobs = worker.knobs
    fraction, max_bs, chunk = knobs.mem_fraction_static, knobs.cuda_graph_max_bs, knobs.chunked_prefill_size
    if fraction is None or max_bs is None or chunk is None:
        raise ValueError(f"the {worker.role} worker's knobs are not resolved: {knobs}")
    loaded = weights(model, worker)
    kv = gpu.usable_gib * fraction - loaded.total
    per_token = kv_bytes_per_gpu(model, worker)
    tokens = max(int(kv * GIB / per_token), 0)
    tables = request_table_gib(model, worker, tokens) + runtime_gib(tokens, constants)
    graphs = graph_gib(model, worker, max_bs, constants)
    buffers = deepep.buffer_gib(model, worker)
    activations = activation_gib(model, worker, chunk, max_bs, constants)
    first_use = constants.nccl_gib + constants.warm_up_gib
    free = gpu.usable_gib * (1 - fraction) - tables - graphs - buffers
    face, deficit = _face(kv, free, first_use, activations, captured=captures_decode(worker))
    return WorkerMemory(
        usable_gib=gpu.usable_gib,
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
        minimum_fraction=loaded.total / gpu.usable_gib,
        face=face,
        deficit_gib=deficit,
    )


def _face(kv: float, free: float, first_use: float, activations: float, *, captured: bool) -> tuple[Face | None, float]:
    if kv <= 0:
        return "no_kv_left", -kv
    if free < 0 and captured:
        return "capture", -free
    if free < first_use:
        return "warm_up", first_use - free
    if free < first_use + activations:
        return "under_load", first_use + activations - free
    return None, 0.0
