"""Configs and folders that no model has: each is a finding, none a traceback, an endless wait or a huge loop."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from wideloop.manifests import profiles
from wideloop.manifests.errors import Refused
from wideloop.manifests.model import ModelSpec

R1 = json.loads(profiles.model_config_path("DeepSeek-R1").read_text())
QWEN = json.loads(profiles.model_config_path("Qwen3-30B-A3B").read_text())
#: Values that a key of a config may hold where a number belongs.
WRONG: list[Any] = [
    0,
    -1,
    10**12,
    10**300,
    1.5,
    "",
    "many",
    True,
    [],
    [1, 2],
    {},
    {"a": {}},
    float("nan"),
    float("inf"),
]
NUMBERS = (
    "num_hidden_layers", "hidden_size", "num_attention_heads", "num_experts", "n_routed_experts", "num_experts_per_tok",
    "moe_intermediate_size", "vocab_size", "kv_lora_rank", "qk_nope_head_dim", "v_head_dim", "head_dim",
)  # fmt: skip
OTHERS = (
    "architectures", "model_type", "_name_or_path", "quantization_config", "text_config", "mlp_only_layers", "n_group",
    "first_k_dense_replace", "moe_layer_freq", "max_position_embeddings", "num_nextn_predict_layers", "torch_dtype",
    "vision_config", "layer_types", "tie_word_embeddings", "partial_rotary_factor", "linear_attn_config",
    "compress_ratios", "expert_dtype", "sparse_attention_config", "attention_other_setting",
    "interleave_moe_layer_step",
)  # fmt: skip


def read(tmp_path: Path, config: dict[str, Any]) -> ModelSpec | None:
    """The model, or None when it was refused with a text that can be printed."""
    (tmp_path / "config.json").write_text(json.dumps(config))
    try:
        return profiles.model(str(tmp_path))
    except Refused as refused:
        text = str(refused)
        assert len(text.encode()) < 1500
        return None


@pytest.mark.parametrize("config", [R1, QWEN], ids=["mla", "grouped"])
@pytest.mark.parametrize("key", [*NUMBERS, *OTHERS])
def test_a_wrong_value_of_a_key_is_a_finding_or_has_no_bearing(tmp_path, config, key):
    for value in [*WRONG, None]:
        model = read(tmp_path, {**config, key: value})
        assert model is None or 0 < model.total_bytes < 10**18


@pytest.mark.parametrize("key", [k for k in NUMBERS if k in R1])
@pytest.mark.parametrize("value", [-1, 10**12, 1.5, "many", True, [], [1, 2, 3], {}, float("nan")])
def test_a_wrong_number_is_refused_with_its_key(tmp_path, key, value):
    (tmp_path / "config.json").write_text(json.dumps({**R1, key: value}))
    with pytest.raises(Refused, match=key):
        profiles.model(str(tmp_path))


@pytest.mark.parametrize(
    "text",
    [
        "", "null", "[]", "3", '"text"', "{", "{}", "\x00" * 100, "[" * 100_000,
        '{"text_config":' * 5000 + "{}" + "}" * 5000,
        '{"num_hidden_layers": ' + "9" * 5000 + "}", '{"architectures": ["' + "A" * 100_000 + '"]}',
    ],
)  # fmt: skip
def test_a_text_that_is_no_config_is_refused(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(Refused):
        profiles.model(str(tmp_path))


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "config.json").write_bytes(b"\xff\xfe\x00{")
    with pytest.raises(Refused, match=r"config\.json"):
        profiles.model(str(tmp_path))


def test_a_deeply_nested_text_config_is_refused_or_read(tmp_path):
    config: dict[str, Any] = dict(QWEN)
    for _ in range(200):
        config = {"text_config": config}
    model = read(tmp_path, config)
    assert model is None or model.num_experts == 128


@pytest.mark.parametrize("entry", ["config.json", "model.safetensors.index.json", "hf_quant_config.json"])
def test_a_pipe_in_place_of_a_file_is_not_waited_for(tmp_path, entry):
    (tmp_path / "config.json").write_text(json.dumps(QWEN))
    (tmp_path / entry).unlink(missing_ok=True)
    os.mkfifo(tmp_path / entry)
    if entry == "config.json":
        with pytest.raises(Refused, match=r"config\.json"):
            profiles.model(str(tmp_path))
    else:
        assert profiles.model(str(tmp_path)).num_experts == 128


@pytest.mark.parametrize(
    "name", ["/" + "x" * 5000, "x" * 5000, "org/" + "y" * 5000, "a\x00b", "/a\x00b", "/dev/zero", "/proc/self/mem"]
)
def test_a_name_that_no_file_can_have_is_refused_in_short(name):
    with pytest.raises(Refused) as refused:
        profiles.model(name)
    assert len(str(refused.value)) < 1500


def test_a_folder_that_cannot_be_read_is_refused(tmp_path):
    folder = tmp_path / "closed"
    folder.mkdir()
    (folder / "config.json").symlink_to(folder / "config.json")
    with pytest.raises(Refused, match=r"config\.json"):
        profiles.model(str(folder))


def test_a_name_of_half_a_character_can_be_printed(tmp_path):
    (tmp_path / "config.json").write_text(
        '{"_name_or_path": "\\ud800' + "n" * 5000 + '", ' + json.dumps(QWEN)[1:].replace('"_name_or_path"', '"was"', 1)
    )
    name = profiles.model(str(tmp_path)).name
    assert name.encode()
    assert len(name) <= 200


@pytest.mark.parametrize("total", [0, -5, "large", None, [], 1e400, True])
def test_an_index_without_a_size_leaves_the_count(tmp_path, total):
    (tmp_path / "config.json").write_text(json.dumps(QWEN))
    (tmp_path / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": total}, "weight_map": {}})
    )
    assert profiles.model(str(tmp_path)).total_bytes == profiles.model("Qwen3-30B-A3B").total_bytes


def test_a_list_of_patterns_that_takes_for_ever_is_not_waited_for(tmp_path):
    block = {"quant_method": "compressed-tensors", "ignore": [r"re:(a*)*b$", "re:(.*.*)*x$"] * 10,
             "config_groups": {"g": {"targets": ["Linear"], "weights": {"num_bits": 4, "group_size": 32}}}}  # fmt: skip
    read(tmp_path, {**QWEN, "quantization_config": block})
