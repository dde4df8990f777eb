from __future__ import annotations

import json
from pathlib import Path

import pytest
from wideloop.manifests import profiles
from wideloop.manifests.engine_side import random_model, tokenizer
from wideloop.manifests.model import ModelSpec

tokenizers = pytest.importorskip("tokenizers")


def test_a_made_directory_has_what_a_server_needs_but_weights(tmp_path: Path):
    config = profiles.model_config_path("Random-Qwen3-MoE-8L")
    out = random_model.make(config, tmp_path / "m")
    assert ModelSpec.from_path(out).num_experts == 128
    assert (out / random_model.MARKER).is_file()
    assert not list(out.glob("*.safetensors"))
    made = tokenizers.Tokenizer.from_file(str(out / "tokenizer.json"))
    # Any token the model draws can be written: an answer without text would look like one without tokens.
    assert made.get_vocab_size() == json.loads((out / "config.json").read_text())["vocab_size"]
    assert json.loads((out / "tokenizer_config.json").read_text())["chat_template"] == tokenizer.CHAT_TEMPLATE


def test_the_same_directory_is_made_twice(tmp_path: Path):
    config = profiles.model_config_path("Random-Qwen3-MoE-8L")
    first, second = (random_model.make(config, tmp_path / n) for n in "ab")
    assert (first / "tokenizer.json").read_bytes() == (second / "tokenizer.json").read_bytes()
