"""The memory model against what SGLang did on GPUs."""

import pytest
from wideloop.manifests import profiles
from wideloop.manifests.deployment import DeploymentSpec, Knobs, WorkerSpec
from wideloop.manifests.engines import get_engine
from wideloop.manifests.engines.sglang_memory.model import SglangMemory
from wideloop.manifests.errors import Refused, refuse
from wideloop.manifests.hardware import WorkerLayout
from wideloop.manifests.model import ModelSpec
from wideloop.tuning.memory import memory_findings

EP2 = WorkerLayout(nodes=1, gpus_per_node=2, tp=2, dp=1, ep=2)
H200 = profiles.hardware("h200-8").gpu


def qwen_like(layers, hidden, heads, kv_heads, intermediate):
    """The random-weight models of the two-H200 measurements."""
    return ModelSpec.from_config(
        {
            "num_hidden_layers": layers,
            "hidden_size": hidden,
            "num_attention_heads": heads,
            "num_key_value_heads": kv_heads,
            "head_dim": 128,
            "num_experts": 128,
            "num_experts_per_tok": 8,
            "moe_intermediate_size": intermediate,
            "vocab_size": 32768,
            "max_position_embeddings": 40960,
        },
        "measured",
    )


Q24 = qwen_like(24, 2048, 32, 4, 768)
MOE8 = qwen_like(8, 4096, 64, 16, 1536)


def memory(model, role="aggregated", redundant=0, fraction=0.6, max_bs=256, chunk=16384):
    knobs = Knobs(
        redundant_experts=redundant,
        mem_fraction_static=fraction,
        cuda_graph_max_bs=max_bs,
        chunked_prefill_size=chunk,
    )
    return SglangMemory().worker(model, H200, WorkerSpec(role=role, layout=EP2, knobs=knobs))


@pytest.mark.parametrize(
    ("model", "redundant", "fraction", "kv_gib", "tokens"),
    [
        (Q24, 0, 0.6, 68.84, 3_007_717),
        (Q24, 0, 0.3, 27.35, 1_194_824),
        (Q24, 0, 0.85, 103.42, 4_518_462),
        (MOE8, 0, 0.6, 64.08, 2_100_000),
        (MOE8, 8, 0.6, 62.94, 2_062_000),
        (MOE8, 32, 0.6, 59.56, 1_952_000),
    ],
)
def test_kv_cache_is_what_sglang_allocated(model, redundant, fraction, kv_gib, tokens):
    result = memory(model, redundant=redundant, fraction=fraction)
    assert result.kv_gib == pytest.approx(kv_gib, abs=0.1)
    assert result.kv_tokens == pytest.approx(tokens, rel=0.005)


@pytest.mark.parametrize(
    ("model", "max_bs", "gib"),
    [(Q24, 8, 0.064), (Q24, 64, 0.160), (Q24, 256, 0.484), (MOE8, 64, 0.109), (MOE8, 256, 0.35), (MOE8, 512, 0.60)],
)
def test_graph_memory_is_what_was_captured(model, max_bs, gib):
    assert memory(model, max_bs=max_bs).graphs_gib == pytest.approx(gib, abs=0.03)


@pytest.mark.parametrize(("chunk", "low", "high"), [(4096, 0.6, 1.0), (8192, 1.3, 2.2), (16384, 2.7, 4.8)])
def test_activations_are_in_the_measured_range(chunk, low, high):
    assert low < memory(MOE8, chunk=chunk).activations_gib < high


@pytest.mark.parametrize(
    ("redundant", "fraction", "max_bs", "chunk", "stage"),
    [
        (0, 0.99, 512, 16384, "capture"),
        (8, 0.985, 512, 32768, "warm_up"),
        (32, 0.97, 512, 16384, "under_load"),
        (0, 0.1, 256, 16384, "no_kv_left"),
        (16, 0.93, 512, 16384, None),
        (0, 0.85, 512, 8192, None),
    ],
)
def test_each_stage_of_out_of_memory_shows_where_it_was_seen(redundant, fraction, max_bs, chunk, stage):
    result = memory(MOE8, redundant=redundant, fraction=fraction, max_bs=max_bs, chunk=chunk)
    assert result.oom_stage == stage
    assert (result.deficit_gib > 0) == (stage is not None)


def test_the_minimum_viable_fraction_is_sglangs():
    assert memory(MOE8, fraction=0.1).minimum_fraction == pytest.approx(0.1379, abs=0.002)


@pytest.mark.parametrize(("ep", "gib"), [(8, 76.14), (16, 38.07), (32, 19.04)])
def test_experts_of_deepseek_r1_per_gpu(ep, gib):
    layout = WorkerLayout(nodes=1, gpus_per_node=ep, tp=ep, dp=ep, ep=ep)
    knobs = Knobs(mem_fraction_static=0.8, cuda_graph_max_bs=64, chunked_prefill_size=8192)
    worker = WorkerSpec(role="decode", layout=layout, knobs=knobs)
    result = SglangMemory().worker(profiles.model("DeepSeek-R1"), H200, worker)
    assert result.experts_gib == pytest.approx(gib, abs=0.01)


def deployment(model, hardware, **decode):
    profile = profiles.hardware(hardware)
    workers = tuple(
        WorkerSpec(role=role, layout=layout, knobs=Knobs(**decode) if role == "decode" else Knobs())
        for role, layout in profile.workers.items()
    )
    spec = DeploymentSpec(
        name="t", target="local", engine="simulated", image="sha256:0", model=profiles.model(model),
        model_path="/m", hardware=profile, workers=workers,
    )  # fmt: skip
    return get_engine("simulated").resolve(spec)


@pytest.mark.parametrize("hardware", ["h100-8", "h100-16", "h100-16-4x4"])
def test_deepseek_r1_is_refused_on_eighty_gigabyte_gpus(hardware):
    with pytest.raises(Refused, match="DeepSeek-R1") as refused:
        refuse(memory_findings(deployment("DeepSeek-R1", hardware)))
    assert "16 such GPUs" in str(refused.value)


@pytest.mark.parametrize("hardware", ["h200-16", "h200-32", "gke-b200-32", "dgx-cloud-gb200"])
def test_deepseek_r1_fits_where_the_guides_put_it(hardware):
    decode = {"mem_fraction_static": 0.8, "cuda_graph_max_bs": 64}
    assert memory_findings(deployment("DeepSeek-R1", hardware, **decode)) == []


def test_the_published_104_gpu_configuration_fits():
    """LMSYS: decode EP 72, 32 redundant, memory fraction 0.835, graphs up to 128."""
    spec = deployment(
        "DeepSeek-R1", "h100-104", redundant_experts=32, mem_fraction_static=0.835, cuda_graph_max_bs=128,
        deepep_mode="low_latency",
    )  # fmt: skip
    assert [f for f in memory_findings(spec) if f.field.startswith("decode")] == []


def test_a_fraction_that_kills_is_a_warning_that_names_one_that_works():
    spec = deployment("Qwen3-30B-A3B-FP8", "l4-8", mem_fraction_static=0.97)
    (finding,) = memory_findings(spec)
    assert finding.severity == "infeasible"
    low, high = (float(w) for w in finding.suggestion.split() if w.replace(".", "").isdigit())
    for fraction in (low + 0.01, high - 0.01):
        assert memory_findings(deployment("Qwen3-30B-A3B-FP8", "l4-8", mem_fraction_static=fraction)) == []
