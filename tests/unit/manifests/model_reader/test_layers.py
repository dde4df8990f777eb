"""Which layers have experts, attend, or keep a state, by each family's way to say so."""

from typing import Any

import pytest
from wideloop.manifests.errors import Refused
from wideloop.manifests.model_reader import read_config

BASE: dict[str, Any] = {
    "architectures": ["XForCausalLM"], "num_hidden_layers": 12, "hidden_size": 256, "intermediate_size": 1024,
    "moe_intermediate_size": 128, "num_experts": 8, "num_experts_per_tok": 2, "num_attention_heads": 8,
    "num_key_value_heads": 2, "head_dim": 32, "vocab_size": 1000,
}  # fmt: skip
#: Bytes of a cached token in one layer.
CELL = 2 * 2 * 32 * 2


def read(**more: Any):
    return read_config({**BASE, **more}, "m")


@pytest.mark.parametrize(
    ("keys", "moe"),
    [
        ({}, 12),
        ({"first_k_dense_replace": 3}, 9),
        ({"first_k_dense_replace": 1, "moe_layer_freq": 2}, 5),
        ({"moe_layer_freq": [0, 0] + [1] * 10}, 10),
        ({"decoder_sparse_step": 3}, 4),
        ({"decoder_sparse_step": 2, "mlp_only_layers": [1, 3]}, 4),
        ({"mlp_layer_types": ["dense"] * 4 + ["sparse"] * 8}, 8),
        ({"interleave_moe_layer_step": 4}, 3),
        ({"moe_layers": [1, 5, 11]}, 3),
        ({"moe_layers": [], "interleave_moe_layer_step": 2}, 6),
        ({"moe_layers_enum": "4, 5,6"}, 3),
        ({"moe_layer_start_index": 2, "moe_layer_end_index": 9, "moe_layer_interval": 2}, 4),
        ({"moe_layer_start_index": [1, 1], "moe_layer_end_index": [-1, 8]}, 11),
        ({"expert_layer_period": 2, "expert_layer_offset": 1}, 6),
        ({"num_dense_layers": 2}, 10),
        ({"moe_layer_num_skipped": 5}, 7),
    ],
)
def test_layers_with_experts(keys, moe):
    assert read(**keys).num_moe_layers == moe


@pytest.mark.parametrize(
    ("keys", "full", "window"),
    [
        ({}, 12, 0),
        ({"sliding_window": 4096}, 12, 0),
        ({"sliding_window": 128, "layer_types": ["sliding_attention", "full_attention"] * 6}, 6, 6),
        ({"sliding_window": 128, "sliding_window_pattern": 4}, 3, 9),
        ({"sliding_window": 128, "sliding_window_pattern": "LLLG"}, 3, 9),
        ({"sliding_window": 128, "global_attn_every_n_layers": 6}, 2, 10),
        ({"sliding_window": 128, "hybrid_layer_pattern": [0, 1, 1] * 4}, 4, 8),
        ({"full_attention_interval": 4}, 3, 0),
        ({"layer_types": ["linear_attention"] * 8 + ["full_attention"] * 4}, 4, 0),
        ({"layer_types": ["conv", "conv", "full_attention"] * 4, "conv_L_cache": 3}, 4, 0),
        ({"full_attn_idxs": [2, 5], "conv_L_cache": 3}, 2, 0),
        ({"layer_types": ["mamba", "mamba", "attention"] * 4}, 4, 0),
        ({"attn_type_list": [0, 0, 0, 1] * 3}, 3, 0),
        ({"attn_layer_period": 6, "attn_layer_offset": 3}, 2, 0),
        ({"layer_group_size": 5}, 4, 0),
        ({"num_hidden_layers": 8, "hybrid_override_pattern": "MEM*MEM*"}, 2, 0),
        ({"num_hidden_layers": None, "layers_block_type": ["mamba", "moe", "attention", "moe"]}, 1, 0),
    ],
)
def test_layers_with_a_cache(keys, full, window):
    model = read(**keys)
    assert model.kv_bytes_per_token == full * CELL
    assert model.window_kv_bytes_per_token == window * CELL


def test_layers_of_one_block_have_experts_or_attention():
    model = read(hybrid_override_pattern="MEM*MEM*-", num_hidden_layers=9)
    assert (model.num_layers, model.num_moe_layers, model.dense_mlps) == (9, 2, 1)


def test_a_layer_with_a_state_costs_each_request_the_same():
    whole, hybrid = read(), read(full_attention_interval=4)
    assert whole.state_bytes_per_request == 0
    # Gated delta net, 9 layers: 32 heads x 128 x 128 in fp32, and three rows of 8192 convolved inputs in 16 bits.
    assert hybrid.state_bytes_per_request == 9 * (32 * 128 * 128 * 4 + 8192 * 3 * 2)


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"layer_types": ["quantum_attention"] * 12}, "quantum_attention"),
        ({"layer_types": ["full_attention"] * 3}, "3 of 12 layers"),
        ({"layer_types": "full_attention"}, "layer_types"),
        ({"hybrid_override_pattern": "MEXE" * 3}, "hybrid_override_pattern"),
        ({"hybrid_override_pattern": "MEM*", "num_hidden_layers": 5}, "num_hidden_layers"),
        ({"moe_layer_freq": [1, 1]}, "moe_layer_freq"),
        ({"moe_layer_freq": 0}, "moe_layer_freq"),
        ({"moe_layer_freq": "often"}, "moe_layer_freq"),
        ({"moe_layers": [99]}, "moe_layers"),
        ({"mlp_layer_types": ["thick"] * 12}, "mlp_layer_types"),
        ({"decoder_sparse_step": -1}, "decoder_sparse_step"),
        ({"first_k_dense_replace": 12}, "none of its layers has experts"),
        ({"layer_types": ["linear_attention"] * 12}, "none of its layers attends"),
        ({"moe_intermediate_size": [128, 256] * 6}, "moe_intermediate_size"),
        ({"num_experts_per_tok": 9}, "9 experts per token of 8"),
        ({"num_experts": 1}, "fewer than two"),
        ({"head_dim": None, "num_attention_heads": 7}, "head_dim"),
    ],
)
def test_layers_that_are_not_understood_are_refused_by_their_key(keys, named):
    with pytest.raises(Refused) as refused:
        read(**keys)
    assert named in str(refused.value)


@pytest.mark.parametrize(
    "key", ["engram_vocab_size", "num_experts_per_layer_group", "moe_extra_dim", "low_rank_hidden_size", "cca_heads"]
)
def test_a_structural_key_that_nothing_reads_is_refused_by_its_name(key):
    with pytest.raises(Refused, match=key):
        read(**{key: 64})


def test_a_compared_architecture_may_have_keys_for_training_and_images():
    """Hunyuan's config has dozens; one of them shares caches between layers where a switch says so."""
    more = {"cla_share_factor": 2, "num_media_embeds": 257, "org_vocab_size": 1000, "class_num": 3, "use_cla": False}
    read(architectures=["HunYuanMoEV1ForCausalLM"], **more)
    with pytest.raises(Refused, match="use_cla"):
        read(architectures=["HunYuanMoEV1ForCausalLM"], **more | {"use_cla": True})


def test_the_size_of_the_checkpoint_settles_an_unread_key():
    counted = read().total_bytes
    model = read_config({**BASE, "engram_vocab_size": 64}, "m", checkpoint_bytes=counted * 101 // 100)
    assert model.total_bytes == counted * 101 // 100


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rope_theta", 1e6), ("router_aux_loss_coef", 0.01), ("max_window_layers", 28), ("topk_group", 4),
        ("image_token_id", 5), ("mamba_chunk_size", 256), ("attn_implementation", "eager"), ("hidden_act", "silu"),
        ("rope_scaling", {"factor": 4.0, "original_max_position_embeddings": 4096}), ("num_logits_to_keep", 1),
        ("unknown_dims", None), ("other_layers", []), ("ep_size", 1), ("vision_config", {"depth": 2, "hidden_size": 8}),
    ],
)  # fmt: skip
def test_a_key_without_bearing_on_sizes_is_passed_over(key, value):
    read(**{key: value})
