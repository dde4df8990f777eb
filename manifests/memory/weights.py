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
        embeddings: input embedding and head.
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
    mlp = 3 * model.hidden_size
    return Weights(
        attention=_stored(model, model.num_layers * attention),
        absorbed=2 * model.num_layers * model.absorbed_params_per_layer / rank / GIB,
        embeddings=2 * 2 * model.vocab_size * model.hidden_size / rank / GIB,
        dense=_stored(model, (model.num_layers - model.num_moe_layers) * mlp * model.dense_intermediate_size / rank),
        shared=_stored(model, model.num_moe_layers * mlp * model.shared_intermediate_size / _shared_tp(worker)),
        routers=(
            2 * model.num_moe_layers * model.hidden_size * model.num_experts + 4 * model.max_context * model.rotary_dim
        )
        / GIB,
        experts=slots_per_gpu(model, worker) * model.slot_bytes * worker.layout.ep / worker.layout.tp / GIB,
    )


def mtp_gib(model: ModelSpec, worker: WorkerSpec) -> float:
    """GiB per GPU that speculative decoding with the checkpoint's own MTP layers would add: MoE layers, and the
    projection that joins embedding and hidden state; embedding and head are the model's own."""
    layer = weights(model.model_copy(update={"num_layers": 1, "num_moe_layers": 1, "vocab_size": 1}), worker)
    join = _stored(model, 2 * model.hidden_size**2)
    return model.mtp_layers * (layer.total + join)


def attention_tp(worker: WorkerSpec) -> int:
    """GPUs that share one attention-DP rank."""
    return max(worker.layout.tp // worker.layout.dp, 1)


def kv_bytes_per_gpu(model: ModelSpec, worker: WorkerSpec) -> int:
    """Bytes one cached token takes on one GPU; KV heads split at most over the rank's GPUs."""
    return model.kv_bytes_per_token // min(attention_tp(worker), model.num_kv_heads)


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


def _stored(model: ModelSpec, params: float) -> float:
    return model.stored_bytes(int(params)) / GIB
