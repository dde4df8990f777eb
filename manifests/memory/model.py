"""The memory seam of engines: how the GPU memory of a worker divides, and whether it suffices.

One GPU of the worker stands for all: the layout is symmetric. Each engine has its own arithmetic
(``wideloop.manifests.engines.sglang_memory``) and returns a :class:`WorkerMemory`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Literal, Self

from wideloop.manifests.deployment import WorkerSpec
from wideloop.manifests.hardware import GpuSpec
from wideloop.manifests.memory.constants import GIB, MemoryConstants
from wideloop.manifests.memory.weights import kv_bytes_per_gpu, weights
from wideloop.manifests.model import ModelSpec

#: The stage at which a worker runs out of memory: dividing it, capturing graphs, first request, or later under load.
OomStage = Literal["no_kv_left", "capture", "warm_up", "under_load"]


@dataclass(frozen=True)
class WorkerMemory:
    """GiB per GPU of one worker, and what follows from them.

    Attributes:
        usable_gib: memory free when loading begins; mem_fraction_static is a fraction of it.
        attention_gib: all weights but the routed experts.
        kv_tokens: tokens of KV cache per attention-DP rank.
        kv_bytes_per_token: on one GPU.
        tables_gib: the table of requests, lists of free slots and other allocations before capture.
        deepep_gib: DeepEP's communication buffers.
        free_at_ready_gib: memory left once the worker answers, before NCCL's first use and load.
        first_use_gib: memory that the warm-up request keeps of that: NCCL's channels and slack.
        activations_gib: further memory of the largest batch.
        minimum_fraction: ``mem_fraction_static`` below which no KV cache is left.
        oom_stage: stage at which it runs out of memory, None when it fits.
        deficit_gib: memory missing at that stage, 0 when it fits.
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
    oom_stage: OomStage | None
    deficit_gib: float

    @property
    def weights_gib(self) -> float:
        """Everything loaded: attention, embeddings, dense layers, routers and expert slots."""
        return self.attention_gib + self.experts_gib

    @property
    def reserve_gib(self) -> float:
        """Memory beyond weights and KV cache that the worker needs under load."""
        beside = self.graphs_gib + self.tables_gib + self.deepep_gib
        return beside + self.first_use_gib + self.activations_gib

    @property
    def fits(self) -> bool:
        return self.oom_stage is None


@dataclass(frozen=True)
class MemoryModel(ABC):
    """The memory arithmetic of one engine.

    Attributes:
        constants: fitted constants.
        uncalibrated: constants from the engine's sources alone, before any measurement.
    """

    constants: MemoryConstants
    uncalibrated: MemoryConstants

    def having(self, constants: MemoryConstants) -> Self:
        """The same arithmetic with other constants."""
        return replace(self, constants=constants)

    @abstractmethod
    def worker(self, model: ModelSpec, gpu: GpuSpec, worker: WorkerSpec) -> WorkerMemory:
        """Memory of one GPU of ``worker``, whose knobs must be resolved.

        Raises:
            ValueError: a knob is not resolved.
        """

    def graphs_gib(self, model: ModelSpec, worker: WorkerSpec, max_bs: int) -> float:  # noqa: ARG002
        """GiB of captured decode graphs up to ``max_bs`` per attention-DP rank."""
        return 0.0

    def request_table_gib(self, model: ModelSpec, worker: WorkerSpec, kv_tokens: int) -> float:  # noqa: ARG002
        """GiB of the table from requests to their cached tokens."""
        return 0.0


_NOTHING = MemoryConstants(
    runtime_gib=0.0, list_bytes_per_token=0.0, graph_gib=0.0, graph_node_kib=0.0, hidden_tensors=0.0, nccl_gib=0.0
)


class WeightsAndCache(MemoryModel):
    """For an engine without arithmetic of its own: a fraction of the memory holds weights and KV cache."""

    def __init__(self) -> None:
        super().__init__(_NOTHING, _NOTHING)

    def worker(self, model: ModelSpec, gpu: GpuSpec, worker: WorkerSpec) -> WorkerMemory:
        fraction = worker.knobs.mem_fraction_static
        if fraction is None:
            raise ValueError(f"mem_fraction_static of the {worker.role} worker is not resolved")
        loaded, per_token = weights(model, worker), kv_bytes_per_gpu(model, worker)
        kv = gpu.usable_gib * fraction - loaded.total
        return WorkerMemory(
            usable_gib=gpu.usable_gib,
            attention_gib=loaded.other,
            experts_gib=loaded.experts,
            graphs_gib=0.0,
            activations_gib=0.0,
            kv_gib=max(kv, 0.0),
            kv_tokens=max(int(kv * GIB / per_token), 0),
            kv_bytes_per_token=per_token,
            tables_gib=0.0,
            deepep_gib=0.0,
            free_at_ready_gib=gpu.usable_gib * (1 - fraction),
            first_use_gib=0.0,
            minimum_fraction=loaded.total / gpu.usable_gib,
            oom_stage=None if kv > 0 else "no_kv_left",
            deficit_gib=max(-kv, 0.0),
        )
