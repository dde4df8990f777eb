"""Keys of a config.json that may decide about sizes and that nothing here reads.

A family that is not known yet says by such keys what it has beside the usual parts. Passing over them would give a
size that looks right and is not.
"""

from __future__ import annotations

import re
from typing import Any

from wideloop.manifests.model_reader.keys import Keys

#: Names that speak of structure.
_STRUCTURE = re.compile(
    r"layer|expert|moe|head|hidden|dim|rank|attn|attention|conv|mamba|ssm|kv|mlp|ffn|block|interval|pattern|freq|"
    r"latent|state|inner|inter|num_|_num$|n_|depth|width|size|shar|engram|ngram|oe_|memory|mtp|nextn"
)
#: Names of structure that decide nothing about weights or cache, and of tokens, training and multimodal inputs.
_HARMLESS = re.compile(
    r"_token|token_|_id$|_ids$|dropout|_eps$|epsilon|rope|rotary|theta|initializer|init_|_std$|_act$|activation|loss|"
    r"coef|jitter|scal|router|routed_scaling|routing|norm|softmax|softcap|logit|bias|dtype|cache|auto_map|n_group|"
    r"num_expert_group|topk_group|topk_method|chunk_size|max_|_labels|num_labels|beam|return_sequences|ngram_size|"
    r"no_repeat|diversity|penalty|sinkhorn|hash_layers|hc_|topk|top_k|ep_size|pretraining_tp|max_window_layers|sink|"
    r"image|video|audio|vision|visual|vit_|patch|spatial|merge|use_|output_|attn_implementation|_attn_|"
    r"num_logits_to_keep|logits_to_keep|time_step|rescale|clip|no_rope|nope|alpha|limit|window|capacity|"
    r"_hidden_states$|attentions$|projector|temperature|attn_temperature|floor|model_type|"
    r"min_|ignore_index|problem|pruned_heads|chunk_size_feed_forward|cross_attention|tie_|is_|num_beams|"
    r"expert_selection|combination_strategy|overlap|residual|multiplier|group_routing|capacity|z_loss|num_hash"
)
#: Read by one rule of several: when another rule decides, these say the same again, or nothing.
_UNDERSTOOD = frozenset(
    {
        "num_key_value_heads", "head_dim", "qk_head_dim", "num_attention_heads", "intermediate_size", "moe_layer_freq",
        "full_attention_interval", "layer_group_size", "layer_types", "first_k_dense_replace", "n_shared_experts",
        "num_shared_experts", "num_experts", "num_local_experts", "moe_num_experts", "n_routed_experts",
        "decoder_sparse_step", "sliding_window_pattern", "global_attn_every_n_layers", "moe_intermediate_size",
        "shared_intermediate_size", "moe_layers", "mlp_only_layers", "num_nextn_predict_layers", "num_mtp_modules",
        "mtp_transformer_layers", "mtp_num_hidden_layers", "quantization_config", "compression_config", "torch_dtype",
        "dtype", "attention_other_setting", "swa_num_key_value_heads", "swa_head_dim", "swa_v_head_dim", "v_head_dim",
        "swa_num_attention_heads", "linear_attn_config", "mamba_expand", "expand", "n_groups", "attn_type_list",
        "moe_layer_start_index", "moe_layer_end_index", "moe_layer_interval", "qk_rope_head_dim", "qk_nope_head_dim",
        "index_topk_freq", "index_share_for_mtp_iteration", "index_skip_topk_offset", "attn_res_block_size",
        "vocab_size_per_layer_input", "num_layers", "mamba_hidden_act", "ssm_state_size", "conv_kernel",
        "mamba_num_heads", "mamba_head_dim", "attn_head_dim", "kv_channels", "hidden_size_per_layer_input",
        "mlp_layer_types", "linear_num_key_heads", "linear_num_value_heads", "linear_key_head_dim",
        "linear_value_head_dim", "linear_conv_kernel_dim", "num_attention_groups", "moe_latent_size",
        "interleave_moe_layer_step", "zero_expert_num", "short_conv_kernel_size", "mtp_layers_block_type",
        "mtp_hybrid_override_pattern", "index_block_size", "index_local_blocks", "attn_config",
        "ffn_config", "kda_safe_gate", "linear_head_dim", "linear_num_heads",
        "block_size", "mlp_alpha_factor", "mlp_beta_factor", "linear_attn_alpha_factor", "linear_attn_beta_factor",
        "full_attn_alpha_factor", "full_attn_beta_factor", "layernorm_full_attention_alpha", "no_rope_layers",
    }
)  # fmt: skip
#: Tables of n-grams, whose sizes are ratios of the vocabulary (LongCat).
_EMBEDDINGS = re.compile(r"ngram|oe_")
_TEXT_CONFIGS = ("text_config", "llm_config", "language_config", "thinker_config")

#: Architectures whose configs were read and compared with what is published or with their model class: what else these
#: configs have, for training and for inputs other than text, is known to have no bearing.
_COMPARED = frozenset(
    {
        "AXK1", "Afmoe", "Aria", "Arctic", "BailingMoe", "BailingMoeV2", "BailingMoeV2_5", "Cohere2Moe", "Dbrx",
        "Deepseek", "DeepseekV2", "DeepseekV3", "DeepseekV32", "DeepseekV4", "DeepseekVLV2", "Dots1", "Ernie4_5_Moe",
        "ExaoneMoE", "FlexOlmo", "Gemma4", "Glm4Moe", "Glm4MoeLite", "Glm4vMoe", "GlmMoeDsa", "GptOss", "GraniteMoe",
        "GraniteMoeHybrid", "GraniteMoeShared", "Grok1", "HYV3", "HunYuanMoEV1", "Jamba", "KimiK25", "KimiK3",
        "KimiLinear", "KimiVL", "Laguna", "Lfm2Moe", "Llama4", "LongcatFlash", "Mellum", "MiMoV2", "MiMoV2Flash",
        "MiniMax", "MiniMaxM1", "MiniMaxM2", "MiniMaxM3", "MiniMaxM3Sparse", "MiniMaxText01", "MistralLarge3",
        "Mixtral", "NemotronH", "Olmoe", "PanguProMoE", "PhiMoE", "Qwen2Moe", "Qwen3Moe", "Qwen3Next", "Qwen3VLMoe",
        "Qwen3_5Moe", "SolarOpen", "Step3VL", "Step3p5", "Step3p7", "Step3p7Flash",
    }
)  # fmt: skip
_MODEL = re.compile(r"(ForCausalLM|ForConditionalGeneration)$")


def refuse_unread(keys: Keys, architecture: str) -> None:
    """Refuse a config with structural keys that were not read, unless its architecture is one of those compared."""
    if keys.flag("use_cla"):
        keys.refuse("its config.json has use_cla = true: layers that share a cache are not understood")
    if _MODEL.sub("", architecture) in _COMPARED:
        return
    unread = [key for key, value in keys.items() if key not in keys.used | _UNDERSTOOD and _is_structural(key, value)]
    if unread:
        listed = ", ".join(sorted(unread)[:5])
        keys.refuse(
            f"its config.json has keys that may change its size and are not understood: {listed}",
            "Give a directory or a hub id whose model.safetensors.index.json says its total size",
        )


def _is_structural(key: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value and re.search(r"gate|latent|share|k_eq_v|mtp", key) is not None and not _HARMLESS.search(key)
    if value in (None, 0, "", [], {}) or key in _TEXT_CONFIGS:
        return False
    if isinstance(value, float) and not _EMBEDDINGS.search(key):
        return False
    is_number = isinstance(value, int | float | list | dict)
    return is_number and bool(_STRUCTURE.search(key)) and not _HARMLESS.search(key)
