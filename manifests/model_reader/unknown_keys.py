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
    r"latent|state|inner|inter|latent|num_|n_|depth|width|size|shar|engram|ngram|memory|mtp|nextn"
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
        "interleave_moe_layer_step", "zero_expert_num", "kda_safe_gate", "linear_head_dim", "linear_num_heads",
        "block_size", "mlp_alpha_factor", "mlp_beta_factor", "linear_attn_alpha_factor", "linear_attn_beta_factor",
        "full_attn_alpha_factor", "full_attn_beta_factor", "layernorm_full_attention_alpha", "no_rope_layers",
    }
)  # fmt: skip
_TEXT_CONFIGS = ("text_config", "llm_config", "language_config", "thinker_config")


def refuse_unread(keys: Keys, name: str) -> None:
    """Refuse a config with structural keys that were not read."""
    unread = [key for key, value in keys.items() if key not in keys.used | _UNDERSTOOD and _is_structural(key, value)]
    if unread:
        listed = ", ".join(sorted(unread)[:5])
        keys.refuse(
            f"its config.json has keys that may change its size and are not understood: {listed}",
            f"Give a directory or a hub id whose model.safetensors.index.json says the total size of {name[:60]}",
        )


def _is_structural(key: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value and re.search(r"gate|latent|share|k_eq_v|mtp", key) is not None and not _HARMLESS.search(key)
    if value in (None, 0, "", [], {}) or key in _TEXT_CONFIGS:
        return False
    return isinstance(value, int | list | dict) and bool(_STRUCTURE.search(key)) and not _HARMLESS.search(key)
