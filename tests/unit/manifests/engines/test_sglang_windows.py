"""Layers with a window: their pool, and what cannot be sent between prefill and decode."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from wideloop.manifests import profiles
from wideloop.manifests.deployment import DeploymentSpec, Knobs, WorkerSpec
from wideloop.manifests.engines.sglang_memory.pools import cache_share, cell_bytes
from wideloop.manifests.engines.sglang_windows import has_window_pool, transfer_findings
from wideloop.manifests.model_reader import read_config

PUBLIC: dict[str, Any] = yaml.safe_load((Path(__file__).parents[1] / "model_reader" / "public_models.yaml").read_text())


def public(name: str) -> Any:
    return read_config(PUBLIC[name]["config"], name)


def spec(model: str, hardware: str) -> DeploymentSpec:
    profile = profiles.hardware(hardware)
    workers = tuple(WorkerSpec(role=role, layout=layout) for role, layout in profile.workers.items())
    return DeploymentSpec(
        name="t", target="dynamo", engine="dynamo-sglang", image="sha256:0", model=public(model), model_path="/m",
        hardware=profile, workers=workers,
    )  # fmt: skip


@pytest.mark.parametrize("model", ["gpt-oss-120b", "MiMo-V2-Flash", "Llama-4-Maverick", "Gemma-4-26B-A4B"])
@pytest.mark.parametrize(
    ("hardware", "findings"), [("h200-16", 1), ("h200-8", 1), ("h200-32", 0), ("h200-8-aggregated", 0)]
)
def test_a_windowed_cache_goes_only_between_equal_attention_ranks(model, hardware, findings):
    found = list(transfer_findings(spec(model, hardware)))
    assert [f.severity for f in found] == ["error"] * findings


@pytest.mark.parametrize(
    "model", ["DeepSeek-V3", "Qwen3-30B-A3B", "DeepSeek-V4-Flash", "Trinity-Mini", "K-EXAONE-236B-A23B"]
)
def test_models_without_a_pool_of_windows_are_sent_between_any(model):
    assert list(transfer_findings(spec(model, "h200-16"))) == []


def one_gpu() -> WorkerSpec:
    layout = profiles.hardware("h200-8-aggregated").workers["aggregated"]
    return WorkerSpec(role="aggregated", layout=layout.changed(gpus_per_node=1, tp=1, dp=1, ep=1), knobs=Knobs())


@pytest.mark.parametrize(
    ("model", "pool", "cell"),
    [
        # 18 full layers, and 0.8 tokens of 18 windowed ones: 2 x 8 heads x 64 x 2 bytes each.
        ("gpt-oss-120b", True, int(2048 * (18 + 0.8 * 18))),
        # SGLang does not know AFMoE's windows: all 32 layers cache every token.
        ("Trinity-Mini", False, 2 * 4 * 128 * 2 * 32),
        ("Qwen3-30B-A3B", False, 2 * 4 * 128 * 2 * 48),
    ],
)
def test_a_token_takes_what_its_layers_pools_do(model, pool, cell):
    assert has_window_pool(public(model)) is pool
    assert cell_bytes(public(model), one_gpu()) == cell


@pytest.mark.parametrize(
    ("model", "share"), [("Qwen3-30B-A3B", 1.0), ("gpt-oss-120b", 1.0), ("Qwen3-Next-80B-A3B", 1 / 1.9)]
)
def test_states_take_their_part_of_the_memory(model, share):
    assert cache_share(public(model)) == pytest.approx(share)
