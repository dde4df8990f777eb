"""The reader against checkpoints whose sizes are published."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from wideloop.manifests.model_reader import read_config

PUBLIC: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "public_models.yaml").read_text())
#: Bytes per token of layers whose cache grows, and of those with a window, from the shapes by hand:
#: 2 (key and value) x KV heads x width x 2 bytes x layers; MLA: (512 + 64) x 2 x layers.
CACHES = {
    "DeepSeek-V3": (576 * 2 * 61, 0),
    "DeepSeek-V3.2": ((576 * 2 + 132) * 61, 0),
    "Kimi-Linear-48B-A3B": (576 * 2 * 7, 0),
    "LongCat-Flash": (576 * 2 * 28 * 2, 0),
    "MiniMax-Text-01": (2 * 8 * 128 * 2 * 10, 0),
    "MiMo-V2-Flash": (4 * (192 + 128) * 2 * 9, 8 * (192 + 128) * 2 * 39),
    "gpt-oss-120b": (2 * 8 * 64 * 2 * 18, 2 * 8 * 64 * 2 * 18),
    "Llama-4-Maverick": (2 * 8 * 128 * 2 * 12, 2 * 8 * 128 * 2 * 36),
    "Qwen3-Next-80B-A3B": (2 * 2 * 256 * 2 * 12, 0),
    "Jamba-1.5-Mini": (2 * 8 * 128 * 2 * 4, 0),
    "Granite-4.0-H-Small": (2 * 8 * 128 * 2 * 4, 0),
    "Nemotron-3-Nano-30B-A3B": (2 * 2 * 128 * 2 * 6, 0),
    "LFM2-8B-A1B": (2 * 8 * 64 * 2 * 6, 0),
    "Gemma-4-26B-A4B": (2 * 2 * 512 * 2 * 5, 2 * 8 * 256 * 2 * 25),
    "Step-3": (2 * 1 * 256 * 2 * 61, 0),
}


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_model_has_its_layers_and_the_size_of_its_checkpoint(name):
    public = PUBLIC[name]
    model = read_config(public["config"], name)
    assert [model.num_layers, model.num_moe_layers] == public["layers"]
    assert model.total_bytes / 1e9 == pytest.approx(public["gb"], rel=0.03)


@pytest.mark.parametrize("name", CACHES)
def test_a_public_models_cache_counts_the_layers_that_have_one(name):
    model = read_config(PUBLIC[name]["config"], name)
    assert (model.kv_bytes_per_token, model.window_kv_bytes_per_token) == CACHES[name]


def test_there_are_forty_architectures():
    architectures = {read_config(public["config"], name).architecture for name, public in PUBLIC.items()}
    assert len(architectures) >= 40
