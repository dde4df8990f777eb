"""What redundant experts cost a worker: memory, KV cache, room in DeepEP's buffers, the tuned kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from wideloop.manifests.deployment import WorkerSpec
from wideloop.manifests.engines.sglang_flags import captures_decode, dispatch_tokens
from wideloop.manifests.hardware import HardwareProfile
from wideloop.manifests.kernels import kernel_config
from wideloop.manifests.model import ModelSpec
from wideloop.tuning.memory import worker_memory
from wideloop.tuning.memory.deepep import low_latency_bytes

#: Bytes that DeepEP's low-latency buffers can address (vllm-project/vllm issue 57894; read, not run).
_LOW_LATENCY_LIMIT = 2**35
#: Share of throughput left without a tuned kernel file: 8 redundant experts on two H200s, SGLang 0.5.17.
UNTUNED_PREFILL, UNTUNED_DECODE = 0.70, 0.86


@dataclass(frozen=True)
class Cost:
    """Attributes:
    experts_gib: routed experts on one GPU.
    kv_tokens: tokens of KV cache per attention-DP rank.
    fits: the worker starts and survives load, by the memory model.
    dispatch_limit: most tokens per rank that DeepEP's low-latency buffers can hold; None where it is not used.
    dispatch_ok: the worker needs no more than that.
    kernel: whether SGLang has a tuned MoE kernel for so many local experts.
    """

    experts_gib: float
    kv_tokens: int
    fits: bool
    dispatch_limit: int | None
    dispatch_ok: bool
    kernel: Literal["tuned", "default", "not_needed"]


def cost(model: ModelSpec, hardware: HardwareProfile, worker: WorkerSpec, version: str) -> Cost:
    """Of ``worker`` as it stands, its knobs resolved; ``version`` is SGLang's."""
    memory = worker_memory(model, hardware.gpu, worker)
    limit = _dispatch_limit(model, worker)
    kernel = kernel_config(
        model,
        worker.layout.ep,
        worker.knobs.redundant_experts,
        hardware.gpu,
        version,
        tp=worker.layout.tp,
        all_to_all=worker.knobs.deepep_mode is not None,
    )
    return Cost(
        experts_gib=memory.experts_gib,
        kv_tokens=memory.kv_tokens,
        fits=memory.fits,
        dispatch_limit=limit,
        dispatch_ok=limit is None or not captures_decode(worker) or dispatch_tokens(worker.knobs) <= limit,
        kernel=kernel.state,
    )


def _dispatch_limit(model: ModelSpec, worker: WorkerSpec) -> int | None:
    if worker.knobs.deepep_mode not in ("low_latency", "auto"):
        return None
    experts = model.num_experts + worker.knobs.redundant_experts
    per_token = low_latency_bytes(1024, model.hidden_size, experts) / 1024
    return int(_LOW_LATENCY_LIMIT / per_token)
