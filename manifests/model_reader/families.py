"""What a family's config.json leaves to its model class: defaults, and how its layers are built.

Defaults are those of the configuration classes in Transformers 5.23 and SGLang 0.5.23; a key in a config.json wins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

_NONE: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Family:
    """How the layers of one family are built.

    Attributes:
        defaults: keys that its config.json files leave out.
        expert_matrices: per expert and MLP: 3 with a gate, 2 without.
        shared_key: the key with the width of an MLP that every MoE layer has beside its routed experts.
        blocks: attention blocks, and dense MLPs, of one layer.
        gate: how attention's output is gated: one weight column for each of its values, or one for each head.
        mtp: the MLP of a multi-token-prediction layer; "none": its checkpoints have no such layers.
        mtp_embeddings: whether each such layer has an embedding and a head of its own.
        window_key: the key with the window of sliding layers.
        experts, shared: names of these modules below their layer.
    """

    defaults: Mapping[str, Any] = field(default_factory=lambda: _NONE)
    expert_matrices: int = 3
    shared_key: str = ""
    blocks: int = 1
    gate: Literal["", "value", "head"] = ""
    mtp: Literal["moe", "dense", "none"] = "moe"
    mtp_embeddings: bool = True
    window_key: str = "sliding_window"
    experts: str = "mlp.experts"
    shared: str = "mlp.shared_experts"


_DEFAULT = Family()
_DENSE_FIRST = Family({"first_k_dense_replace": 1})
_QWEN_HYBRID = Family({"full_attention_interval": 4, "mtp_num_hidden_layers": 1}, mtp_embeddings=False)
_NEMOTRON = Family(expert_matrices=2, mtp_embeddings=False)
_STEP = Family({"first_k_dense_replace": 3}, gate="head", mtp="dense")
_LONGCAT = Family({"num_nextn_predict_layers": 1, "first_k_dense_replace": 0}, blocks=2, mtp="dense")
_LLAMA4 = Family(
    {"interleave_moe_layer_step": 1, "sliding_window_pattern": 4},
    shared_key="intermediate_size",
    window_key="attention_chunk_size",
)
#: Its MLP stands beside the experts, as if it were a shared one.
_GEMMA4 = Family({"tie_word_embeddings": True}, shared_key="intermediate_size", experts="experts", shared="mlp")
_JAMBA = Family(
    {
        "attn_layer_period": 8, "attn_layer_offset": 4, "expert_layer_period": 2, "expert_layer_offset": 1,
        "mamba_d_state": 16, "mamba_d_conv": 4, "mamba_expand": 2,
    }
)  # fmt: skip

#: By ``model_type``. Families that need nothing of this are not listed.
_FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "afmoe": Family({"num_dense_layers": 1, "sliding_window_pattern": 4, "num_shared_experts": 2}, gate="value"),
        "arctic": Family({"moe_layer_frequency": 2}, shared_key="intermediate_size"),
        "AXK1": _DENSE_FIRST,
        "axk1": _DENSE_FIRST,
        "bailing_hybrid": Family({"layer_group_size": 6}, mtp_embeddings=False),
        "bailing_moe_linear": Family({"layer_group_size": 8}, gate="", mtp_embeddings=False),
        "bailing_moe_v2": Family(mtp_embeddings=False),
        "bailing_moe_v2_5": Family({"layer_group_size": 8}, mtp_embeddings=False),
        "ernie4_5_moe": Family(
            {
                "moe_layer_start_index": 1,
                "moe_layer_end_index": -1,
                "moe_layer_interval": 1,
                "moe_num_shared_experts": 2,
                "tie_word_embeddings": True,
            },
            mtp_embeddings=False,
        ),
        "cohere2_moe": Family({"tie_word_embeddings": True, "sliding_window_pattern": 4}),
        "exaone_moe": Family(
            {"first_k_dense_replace": 1, "sliding_window_pattern": 4}, mtp="dense", mtp_embeddings=False
        ),
        "gemma4": _GEMMA4,
        "gemma4_text": _GEMMA4,
        "glm4_moe_lite": _DENSE_FIRST,
        "gpt_oss": Family({"sliding_window_pattern": 2}),
        "granitemoehybrid": Family({"mamba_expand": 2}),
        "jamba": _JAMBA,
        "lfm2_moe": Family({"tie_word_embeddings": True}),
        "llama4": _LLAMA4,
        "llama4_text": _LLAMA4,
        "longcat_flash": _LONGCAT,
        "mimo_v2_flash": Family(mtp="dense"),
        "minimax_m2": Family(mtp="none"),
        "minimax_m3": Family(mtp="none"),
        "minimax_m3_vl": Family(mtp="none"),
        "nemotron_h": _NEMOTRON,
        "qwen3_5_moe": _QWEN_HYBRID,
        "qwen3_5_moe_text": _QWEN_HYBRID,
        "qwen3_next": _QWEN_HYBRID,
        "step3_text": Family({"first_k_dense_replace": 4}),
        "step3p5": _STEP,
        "step3p7": _STEP,
        "step3p7_text": _STEP,
    }
)
#: By architecture, for configs whose ``model_type`` is missing or another family's.
_ARCHITECTURES: Mapping[str, Family] = MappingProxyType(
    {
        "Llama4ForCausalLM": _LLAMA4,
        "Llama4ForConditionalGeneration": _LLAMA4,
        "LongcatFlashForCausalLM": _LONGCAT,
        "NemotronHForCausalLM": _NEMOTRON,
    }
)


def family_of(model_types: list[str], architecture: str) -> Family:
    """The family of the first known one of ``model_types``, else of ``architecture``, else the plain one."""
    for model_type in model_types:
        if model_type in _FAMILIES:
            return _FAMILIES[model_type]
    return _ARCHITECTURES.get(architecture, _DEFAULT)
