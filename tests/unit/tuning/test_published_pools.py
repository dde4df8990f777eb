"""The memory model against lines of public start logs: weights and KV cache pools, within 5 %."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from wideloop.manifests import profiles
from wideloop.manifests.deployment import Knobs, WorkerSpec
from wideloop.manifests.engines.sglang_memory.model import SglangMemory
from wideloop.manifests.hardware import WorkerLayout
from wideloop.manifests.memory import GIB, kv_bytes_per_gpu
from wideloop.manifests.model import ModelSpec
from wideloop.manifests.model_reader import read_config

_FILE = Path(__file__).parents[1] / "manifests" / "model_reader" / "public_models.yaml"
PUBLIC: dict[str, Any] = yaml.safe_load(_FILE.read_text())
H200, H100 = (profiles.hardware(name).gpu for name in ("h200-8", "h100-8"))


def public(name: str) -> ModelSpec:
    return read_config(PUBLIC[name]["config"], name)


def worker(tp: int, dp: int, ep: int, nodes: int = 1, **knobs: Any) -> WorkerSpec:
    layout = WorkerLayout(nodes=nodes, gpus_per_node=tp // nodes, tp=tp, dp=dp, ep=ep)
    resolved = {"mem_fraction_static": 0.8, "cuda_graph_max_bs": 32, "chunked_prefill_size": 8192, **knobs}
    return WorkerSpec(role="aggregated", layout=layout, knobs=Knobs(**resolved))


DEEPEP_4 = worker(4, 4, 4, deepep_mode="auto")
TP_8 = worker(8, 1, 1)
TP_16 = worker(16, 1, 1, nodes=2, mem_fraction_static=0.79)


@pytest.mark.parametrize(
    ("model", "gpu", "started", "tokens"),
    [
        ("Qwen3-30B-A3B", H200, DEEPEP_4, 1_029_388),  # sgl-project/sglang pull request 17392
        ("DeepSeek-V3", H100, TP_16, 307_900),  # sgl-project/sglang issue 2746
    ],
)
def test_the_pool_holds_as_many_tokens_as_the_log_says(model, gpu, started, tokens):
    assert SglangMemory().worker(public(model), gpu, started).kv_tokens == pytest.approx(tokens, rel=0.05)


@pytest.mark.parametrize(
    ("model", "gpu", "started", "gib"),
    [
        ("Qwen3-30B-A3B", H200, DEEPEP_4, 16.39),  # the same log
        ("DeepSeek-V3", H100, TP_16, 40.32),  # vllm-project/vllm issue 16692
    ],
)
def test_the_weights_take_what_the_log_says(model, gpu, started, gib):
    assert SglangMemory().worker(public(model), gpu, started).weights_gib == pytest.approx(gib, rel=0.05)


@pytest.mark.parametrize(
    ("model", "gpu", "started", "gib"),
    [
        ("DeepSeek-V3", H200, TP_8, 58.12),  # sgl-project/sglang issue 3416
    ],
)
def test_as_much_is_left_after_loading_as_the_log_says(model, gpu, started, gib):
    memory = SglangMemory().worker(public(model), gpu, started)
    assert memory.usable_gib - memory.weights_gib == pytest.approx(gib, rel=0.05)


@pytest.mark.parametrize(
    ("model", "tp", "tokens", "gib"),
    [
        # sgl-project/sglang pull request 15464, pools of both kinds of layers with as many tokens.
        ("MiMo-V2-Flash", 4, 1_496_958, 77.63),
    ],
)
def test_a_pool_takes_as_much_memory_as_the_log_says(model, tp, tokens, gib):
    size = tokens * kv_bytes_per_gpu(public(model), worker(tp, 1, 1)) / GIB
    assert size == pytest.approx(gib, rel=0.01)
