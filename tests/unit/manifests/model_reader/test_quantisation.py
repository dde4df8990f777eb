"""Bytes per weight by the form that a quantisation block states."""

import json
from typing import Any

import pytest
from wideloop.manifests.errors import Refused
from wideloop.manifests.model import ModelSpec
from wideloop.manifests.model_reader import read_config

BASE: dict[str, Any] = {
    "architectures": ["DeepseekV3ForCausalLM"], "num_hidden_layers": 5, "first_k_dense_replace": 2, "hidden_size": 512,
    "intermediate_size": 2048, "moe_intermediate_size": 256, "n_routed_experts": 8, "num_experts_per_tok": 2,
    "n_shared_experts": 1, "num_attention_heads": 8, "num_key_value_heads": 8, "kv_lora_rank": 64, "q_lora_rank": 128,
    "qk_rope_head_dim": 32, "qk_nope_head_dim": 64, "v_head_dim": 64, "vocab_size": 1000,
}  # fmt: skip
BLOCKS = {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]}


def linear(bits: int, kind: str, ignore: tuple[str, ...] = (), **weights: Any) -> dict[str, Any]:
    """A compressed-tensors block of one group."""
    group = {"targets": ["Linear"], "weights": {"num_bits": bits, "type": kind, **weights}}
    return {"quant_method": "compressed-tensors", "config_groups": {"group_0": group}, "ignore": list(ignore)}


def read(block: dict[str, Any] | None, beside: dict[str, Any] | None = None, **more: Any) -> ModelSpec:
    config = {**BASE, **more} | ({"quantization_config": block} if block else {})
    return read_config(config, "m", quantisation=beside)


def bytes_of(model: ModelSpec) -> tuple[float, float, float, float]:
    """Per weight of experts, attention, shared experts and dense layers, rounded."""
    experts = model.weight_bytes + model.scale_bytes
    others = (model.attention_weight_bytes, model.shared_weight_bytes, model.dense_weight_bytes)
    return tuple(round(b or 0, 3) for b in (experts, *others))  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (None, 2.0),
        (BLOCKS, 1.0),
        ({"quant_method": "fp8", "activation_scheme": "static"}, 1.0),
        ({"quant_method": "fp8", "weight_block_size": [1, 32]}, 1.031),
        ({"quant_method": "fbgemm_fp8", "modules_to_not_convert": []}, 1.0),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, 1.0),
        ({"quant_method": "modelopt", "quant_algo": "MXFP8"}, 1.031),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4", "group_size": 16}, 0.562),
        ({"quant_method": "modelopt_fp4"}, 0.562),
        ({"quant_method": "modelopt", "quant_algo": "W4A8_AWQ", "group_size": 64}, 0.531),
        (linear(4, "int", group_size=32, symmetric=True, strategy="group"), 0.562),
        (linear(4, "int", group_size=128, symmetric=False, strategy="group"), 0.52),
        (linear(8, "float", strategy="channel"), 1.0),
        (linear(8, "float", strategy="block", block_structure=[128, 128]), 1.0),
        (linear(8, "int", strategy="channel"), 1.0),
        (linear(4, "float", group_size=16, strategy="tensor_group"), 0.562),
        (linear(4, "float", group_size=32, scale_dtype="torch.uint8"), 0.531),
        ({"quant_method": "mxfp4"}, 0.531),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, 0.52),
        ({"quant_method": "gptq", "bits": 4, "group_size": 32}, 0.578),
        ({"quant_method": "gptq", "bits": 8, "group_size": -1}, 1.0),
        ({"quant_method": "auto-round", "bits": 4, "group_size": 128}, 0.52),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, 0.562),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, 1.0),
        ({"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp4"}}}, 0.531),
        ({"quant_method": "w8a8_int8"}, 1.0),
    ],
)
def test_every_part_has_the_bytes_of_the_one_form(block, expected):
    assert bytes_of(read(block)) == (expected,) * 4


MODELOPT = {"quant_method": "modelopt"}
BY_EXPERT = {
    f"model.layers.{i}.mlp.experts.{e}.{w}_proj": {"quant_algo": "NVFP4"}
    for i in range(2, 5)
    for e in range(8)
    for w in ("gate", "up", "down")
}
BY_OTHER_NAMES = {
    f"language_model.model.layers.{i}.block_sparse_moe.experts.0.w{w}": {"quant_algo": "W4A16_NVFP4"}
    for i in range(2, 5)
    for w in (1, 2, 3)
}
KIMI = ("re:.*self_attn.*", "re:.*shared_experts.*", r"re:.*mlp\.(gate|up|gate_up|down)_proj.*")
FIRST_TWO = ["language_model.model.layers.0*", "language_model.model.layers.1.*"]
BESIDE_EXPERTS = ["model.layers.*.self_attn*", "model.layers.*.mlp.shared_experts*"]
MIXED = {"quant_algo": "MIXED_PRECISION", "moe_quant_algo": "NVFP4", "ignore": ["*.attn.*"]}
GPT_OSS = ["model.layers.*.self_attn", "lm_head"]


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ({"quant_method": "w4afp8", "weight_block_size": [128, 128]}, (0.516, 1.0, 1.0, 1.0)),
        (BLOCKS | MIXED, (0.562, 1.0, 1.0, 1.0)),
        ({**BLOCKS, "modules_to_not_convert": ["self_attn", "gate", "lm_head"]}, (1.0, 2.0, 1.0, 1.0)),
        (linear(4, "int", KIMI, group_size=32), (0.562, 2.0, 2.0, 2.0)),
        ({"quant_method": "mxfp4", "modules_to_not_convert": GPT_OSS}, (0.531, 2.0, 0.531, 0.531)),
        (MODELOPT | {"quant_algo": "NVFP4", "exclude_modules": BESIDE_EXPERTS}, (0.562, 2.0, 2.0, 0.562)),
        (MODELOPT | {"quant_algo": "NVFP4", "exclude_modules": FIRST_TWO}, (0.562, 1.137, 0.562, 2.0)),
        (MODELOPT | {"quant_algo": "MIXED_PRECISION", "quantized_layers": BY_EXPERT}, (0.562, 2.0, 2.0, 2.0)),
        (MODELOPT | {"quant_algo": "MIXED_PRECISION", "quantized_layers": BY_OTHER_NAMES}, (0.562, 2.0, 2.0, 2.0)),
    ],
)
def test_parts_that_stay_in_another_form_keep_it(block, expected):
    assert bytes_of(read(block)) == expected


def test_a_layer_that_is_left_out_counts_in_16_bits():
    model = read({**BLOCKS, "modules_to_not_convert": ["model.layers.4"]})
    assert bytes_of(model)[0] == pytest.approx((1 + 1 + 2) / 3, abs=0.001)


@pytest.mark.parametrize("expert_dtype", [("fp4", 0.531), ("bf16", 2.0)])
def test_deepseek_v4_states_its_experts_form_apart(expert_dtype):
    name, expected = expert_dtype
    assert bytes_of(read(BLOCKS, expert_dtype=name)) == (expected, 1.0, 1.0, 1.0)


@pytest.mark.parametrize("where", ["inside", "beside"])
def test_a_block_inside_or_beside_the_text_config_counts(where):
    config: dict[str, Any] = {"architectures": ["XForConditionalGeneration"], "text_config": dict(BASE)}
    (config["text_config"] if where == "inside" else config)["quantization_config"] = BLOCKS
    assert bytes_of(read_config(config, "m"))[0] == 1.0


def test_hf_quant_config_wins_over_a_block_left_behind(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({**BASE, "quantization_config": BLOCKS}))
    quantisation = {"quant_algo": "NVFP4", "group_size": 16, "exclude_modules": ["model.layers.*.self_attn*"]}
    (tmp_path / "hf_quant_config.json").write_text(json.dumps({"quantization": quantisation}))
    assert bytes_of(ModelSpec.from_path(tmp_path)) == (0.562, 2.0, 0.562, 0.562)


@pytest.mark.parametrize(
    ("block", "block_side"),
    [
        (BLOCKS, 128),
        ({**BLOCKS, "weight_block_size": None}, 0),
        ({"quant_method": "fbgemm_fp8"}, 0),
        ({"quant_method": "mxfp4"}, 0),
    ],
)
def test_only_square_blocks_restrict_how_weights_are_split(block, block_side):
    assert read(block).scale_block == block_side


@pytest.mark.parametrize(
    ("block", "named"),
    [
        ({"quant_method": "ultra2bit"}, "quant_method 'ultra2bit'"),
        ({"quant_method": "modelopt", "quant_algo": "FP1"}, "quant_algo 'FP1'"),
        ({"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"}, "quant_method 'modelopt'"),
        ({"quant_method": "compressed-tensors", "config_groups": {}}, "config_groups"),
        ({"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": {}}}}, "num_bits"),
        ({"quant_method": "fp8", "weight_block_size": [0, 0]}, "weight_block_size"),
        ({"quant_method": "fp8", "weight_block_size": "wide"}, "weight_block_size"),
        ({"quant_method": "gptq", "bits": 1000}, "bits"),
        ({"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp2"}}}, "fp2"),
        ({**BLOCKS, "ignore": ["re:("]}, "regular expression"),
        ({**BLOCKS, "ignore": {"a": 1}}, "list of ignored modules"),
        ("fp8", "quantization_config"),
    ],
)
def test_a_form_that_is_not_understood_is_refused_by_its_name(block, named):
    with pytest.raises(Refused) as refused:
        read(block)
    assert named in str(refused.value)


def test_fp32_weights_are_twice_as_large_on_disk_as_loaded():
    single, half = read(None, torch_dtype="float32"), read(None, torch_dtype="bfloat16")
    assert single.total_bytes == 2 * half.total_bytes
    assert single.expert_bytes == half.expert_bytes
