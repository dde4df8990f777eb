"""The cost of redundant experts on a worker: memory, KV cache, room in DeepEP's buffers, the tuned kernel."""

from __future__ import annotations

from dataclasses import dataclass

from wideloop.manifests.deployment import WorkerSpec
from wideloop.manifests.engines.base import Engine, KernelState
from wideloop.manifests.hardware import HardwareProfile
from wideloop.manifests.memory.deepep import low_latency_bytes
from wideloop.manifests.model import ModelSpec

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
    kernel: whether the engine has a tuned MoE kernel for so many local experts.
    """

    experts_gib: float
    kv_tokens: int
    fits: bool
    dispatch_limit: int | None
    dispatch_ok: bool
    kernel: KernelState


def cost(model: ModelSpec, hardware: HardwareProfile, worker: WorkerSpec, engine: Engine, version: str) -> Cost:
    """Cost of ``worker``, whose knobs must be resolved; ``version`` is the engine's."""
    memory = engine.memory_model.worker(model, hardware.gpu, worker)
    limit = _dispatch_limit(model, worker)
    return Cost(
        experts_gib=memory.experts_gib,
        kv_tokens=memory.kv_tokens,
        fits=memory.fits,
        dispatch_limit=limit,
        dispatch_ok=limit is None or not engine.captures_decode(worker) or engine.dispatch_tokens(worker) <= limit,
        kernel=engine.kernel_state(model, hardware.gpu, worker, version),
    )


def _dispatch_limit(model: ModelSpec, worker: WorkerSpec) -> int | None:
    if worker.knobs.deepep_mode not in ("low_latency", "auto"):
        return None
    experts = model.num_experts + worker.knobs.redundant_experts
    per_token = low_latency_bytes(1024, model.hidden_size, experts) / 1024
    return int(_LOW_LATENCY_LIMIT / per_token)
