"""Bytes of weights on one GPU, by the parallelism that divides them.

Formulas follow SGLang 0.5.21 (``models/deepseek_v2.py``, ``models/qwen3_moe.py``) as this project's flags configure it:
``--enable-dp-attention --moe-dense-tp-size 1 --enable-dp-lm-head`` when attention is data-parallel.
"""

from __future__ import annotations

from dataclasses import dataclass

from wideloop.manifests.deployment import WorkerSpec
from wideloop.manifests.memory.constants import GIB
from wideloop.manifests.model import ModelSpec


@dataclass(frozen=True)
class Weights:
    """GiB per GPU.

    Attributes:
        attention: projections, divided over the GPUs of one attention-DP rank, plus the parts copied to each.
        absorbed: 16-bit copies of MLA's up-projections.
        embeddings: input embedding and head, and a vision tower, which every GPU keeps whole.
        dense: the MLP of layers without experts.
        shared: shared experts.
        routers: of all MoE layers, and the table of rotary angles.
        experts: routed experts' physical slots.
    """

    attention: float
    absorbed: float
    embeddings: float
    dense: float
    shared: float
    routers: float
    experts: float

    @property
    def other(self) -> float:
        """Everything but the routed experts."""
        return self.attention + self.absorbed + self.embeddings + self.dense + self.shared + self.routers

    @property
    def total(self) -> float:
        return self.other + self.experts


def weights(model: ModelSpec, worker: WorkerSpec) -> Weights:
    """The weights of one GPU of ``worker``. A multi-token-prediction layer is loaded for speculative decoding only."""
    rank = attention_tp(worker)
    copied = model.attention_copied_params + _copied_kv_params(model, rank)
    attention = (model.attention_params_per_layer - model.attention_copied_params) / rank + copied
    return Weights(
        attention=model.attention_bytes(model.num_layers * attention) / GIB,
        absorbed=2 * model.num_layers * model.absorbed_params_per_layer / rank / GIB,
        embeddings=(model.embedding_bytes / rank + model.other_bytes) / GIB,
        dense=model.dense_bytes(model.dense_params / rank) / GIB,
        shared=model.shared_bytes(model.shared_params / _shared_tp(worker)) / GIB,
        routers=(model.router_bytes + 4 * model.max_context * model.rotary_dim) / GIB,
        experts=slots_per_gpu(model, worker) * model.slot_bytes * worker.layout.ep / worker.layout.tp / GIB,
    )


def mtp_gib(model: ModelSpec, worker: WorkerSpec) -> float:
    """GiB per GPU that speculative decoding with the checkpoint's own MTP layers would add: MoE layers, and the
    projection that joins embedding and hidden state; embedding and head are the model's own."""
    if not model.mtp_layers:
        return 0.0
    layer = model.changed(
        num_layers=1, num_moe_layers=1, dense_mlps=0, vocab_size=1, other_bytes=0, checkpoint_bytes=None
    )
    join = model.attention_bytes(2 * model.hidden_size**2) / GIB
    return model.mtp_layers * (weights(layer, worker).total + join)


def attention_tp(worker: WorkerSpec) -> int:
    """GPUs that share one attention-DP rank."""
    return max(worker.layout.tp // worker.layout.dp, 1)


def kv_bytes_per_gpu(model: ModelSpec, worker: WorkerSpec) -> int:
    """Bytes one cached token takes on one GPU; KV heads split at most over the rank's GPUs.

    Layers with a window count in full: an engine that frees what has left the window says so in its own arithmetic.
    """
    return (model.kv_bytes_per_token + model.window_kv_bytes_per_token) // kv_split(model, worker)


def kv_split(model: ModelSpec, worker: WorkerSpec) -> int:
    """GPUs over which the KV heads of one attention-DP rank are split."""
    return min(attention_tp(worker), model.num_kv_heads)


def slots_per_gpu(model: ModelSpec, worker: WorkerSpec) -> float:
    """Physical expert slots of one expert-parallel rank."""
    return (model.num_experts + worker.knobs.redundant_experts) / worker.layout.ep


def _shared_tp(worker: WorkerSpec) -> int:
    """GPUs that share the shared experts: all that sum their experts' outputs; DeepEP leaves each GPU a whole copy."""
    return 1 if worker.knobs.deepep_mode is not None else worker.layout.tp


def _copied_kv_params(model: ModelSpec, rank: int) -> int:
    """Key and value projections that more GPUs than KV heads hold beyond their even share (grouped queries only)."""
    if model.attention_copied_params or rank <= model.num_kv_heads:
        return 0
    per_head = 2 * model.hidden_size * model.attention_head_dim
    return int(per_head * (1 - model.num_kv_heads / rank))
