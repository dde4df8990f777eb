"""What SGLang asserts after minutes of loading, or gets wrong in silence, is refused at once."""

from itertools import pairwise

import pytest
from wideloop.manifests import profiles
from wideloop.manifests.deployment import DeploymentSpec, Knobs, WorkerSpec
from wideloop.manifests.engines import get_engine, sglang_checks
from wideloop.manifests.engines.sglang_versions import TABLES, flag_table, version_finding
from wideloop.manifests.errors import Refused
from wideloop.manifests.hardware import WorkerLayout

ENGINE = get_engine("dynamo-sglang")


def spec(model="DeepSeek-R1", hardware="h200-16", version="0.5.21", knobs=None, layouts=None):
    profile = profiles.hardware(hardware)
    workers = tuple(
        WorkerSpec(role=role, layout=layout, knobs=(knobs or {}).get(role, Knobs()))
        for role, layout in (profile.workers | (layouts or {})).items()
    )
    return DeploymentSpec(
        name="t", target="dynamo", engine="dynamo-sglang", engine_version=version, image="sha256:0",
        model=profiles.model(model), model_path="/m", hardware=profile, workers=workers,
    )  # fmt: skip


def decode(**knobs):
    return spec(knobs={"decode": Knobs(**knobs)})


def layout(**changes):
    return WorkerLayout(**{"nodes": 1, "gpus_per_node": 8, "tp": 8, "dp": 8, "ep": 8, **changes})


def found(wrong):
    return {(f.field, f.severity): f for f in sglang_checks.sglang_findings(wrong)}


@pytest.mark.parametrize("model", ["DeepSeek-R1", "Qwen3-235B-A22B-FP8", "Qwen3-30B-A3B"])
@pytest.mark.parametrize("hardware", ["h200-16", "h200-16-4x4", "h200-32", "gb200-nvl72"])
def test_profiles_as_they_ship_have_no_errors(model, hardware):
    resolved = ENGINE.resolve(spec(model, hardware))
    assert [f for f in sglang_checks.sglang_findings(resolved) if f.severity == "error"] == []


@pytest.mark.parametrize(
    ("wrong", "field", "works"),
    [
        (decode(deepep_mode="low_latency", cuda_graph_max_bs=1025), "decode.cuda_graph_max_bs", "1024"),
        (decode(deepep_mode="auto", deepep_dispatch_tokens=2048), "decode.deepep_dispatch_tokens", "1024"),
        (decode(max_running_requests=7), "decode.max_running_requests", "at least 8"),
        (spec(knobs={"prefill": Knobs(deepep_mode="low_latency")}), "prefill.deepep_mode", "'normal'"),
        (spec(knobs={"prefill": Knobs(two_batch_overlap=True)}), "prefill.two_batch_overlap", "deepep_mode"),
        (
            spec(knobs={"decode": Knobs(deepep_mode="low_latency")}, layouts={"decode": layout(ep=4)}),
            "decode.ep",
            "Use 8",
        ),
        (spec(knobs={"decode": Knobs(eplb="online")}, layouts={"decode": layout(ep=1)}), "decode.eplb", "larger EP"),
        # 64 heads over 32 ranks is fine; over 24 it is not.
        (
            spec("Qwen3-235B-A22B-FP8", "h100-104", layouts={"decode": layout(nodes=3, tp=24, dp=1, ep=24)}),
            "decode.dp",
            "Use 3",
        ),
        # Width 18,432 over 32 ranks is 576, no multiple of 128.
        (spec(hardware="h100-104", layouts={"prefill": layout(nodes=4, tp=32, dp=1, ep=32)}), "prefill.dp", "Use 32"),
        # Width 1,536 over 8 ranks is 192, no multiple of 128.
        (spec("Qwen3-235B-A22B-FP8", layouts={"decode": layout(ep=1)}), "decode.ep", "Use 8"),
        (spec(version="0.5.16"), "engine_version", "0.5.21"),
        (spec(version="0.6.0"), "engine_version", "0.5.21"),
        (spec(version="newest"), "engine_version", "0.5.21"),
    ],
)
def test_each_is_named_with_a_value_that_works(wrong, field, works):
    assert works in found(wrong)[(field, "error")].suggestion


@pytest.mark.parametrize(
    ("doubtful", "field"),
    [
        (decode(deepep_mode="normal"), "decode.deepep_mode"),
        (
            spec(hardware="h100-64", knobs={"prefill": Knobs(chunked_prefill_size=8192)}),
            "prefill.chunked_prefill_size",
        ),
    ],
)
def test_what_works_badly_is_warned_of(doubtful, field):
    assert (field, "warning") in found(doubtful)


PLACED = Knobs(eplb="static", expert_placement="/p.json")
ONLINE = Knobs(eplb="online", redundant_experts=8)


@pytest.mark.parametrize(
    ("model", "version", "knobs", "refused"),
    [
        ("DeepSeek-R1", "0.5.21", PLACED, True),
        ("DeepSeek-R1", "0.5.22", PLACED, True),
        ("DeepSeek-R1", "0.5.21", ONLINE, False),  # DeepSeek's code looks for --enable-eplb.
        ("Qwen3-235B-A22B-FP8", "0.5.21", ONLINE, True),
        ("DeepSeek-R1", "0.5.21", PLACED.model_copy(update={"deepep_mode": "low_latency"}), False),
        ("DeepSeek-R1", "0.5.23", PLACED, False),
        ("Qwen3-235B-A22B-FP8", "0.5.23", ONLINE, False),
        ("DeepSeek-R1", "0.5.21", Knobs(redundant_experts=8), False),  # Replicas lie idle, answers are right.
    ],
)
def test_a_placement_that_tokens_would_not_follow_is_refused(model, version, knobs, refused):
    wrong = spec(model, version=version, knobs={"decode": knobs})
    assert (("decode.eplb", "error") in found(wrong)) == refused
    repaired = sglang_checks.sglang_findings(wrong, repaired=[wrong.model.architecture])
    assert not any("does not send tokens after them" in f.rule for f in repaired)


def test_a_number_of_experts_without_a_tuned_kernel_is_warned_of():
    """Of no consequence with DeepEP, whose experts run in DeepGEMM."""
    model, hardware = "Qwen3-30B-A3B", "h200-8"
    wrong = spec(model, hardware, knobs={"decode": Knobs(redundant_experts=4)})
    (warning,) = [f for f in ENGINE.validate(wrong) if f.field == "decode.redundant_experts"]
    assert warning.severity == "warning" and "33 local experts" in warning.rule
    deepep = spec(model, hardware, knobs={"decode": Knobs(redundant_experts=4, deepep_mode="low_latency")})
    assert [f for f in ENGINE.validate(deepep) if f.field == "decode.redundant_experts"] == []


def test_versions_are_known_by_range():
    assert flag_table("0.5.21.post1") is flag_table("0.5.21") is flag_table("v0.5.18")
    assert flag_table("0.5.22").attention_dp == ("--attn-dp-size", "{}")
    for table, later in pairwise(TABLES):
        assert table.last < later.first
    with pytest.raises(Refused, match=r"0\.5\.17, 0\.5\.18 to 0\.5\.21, 0\.5\.22, 0\.5\.23"):
        flag_table("0.4.9")
    assert version_finding("0.5.23") is None


@pytest.mark.parametrize(
    ("chunk", "severity", "works"), [(1000, "error", "Use 896"), (100, "error", "Use 128"), (32768, "warning", "16384")]
)
def test_a_chunk_is_whole_pages_and_no_more_than_a_step_takes(chunk, severity, works):
    wrong = spec("Qwen3-30B-A3B", "h200-8", knobs={"prefill": Knobs(chunked_prefill_size=chunk)})
    assert works in found(wrong)["prefill.chunked_prefill_size", severity].suggestion
    decodes = spec("Qwen3-30B-A3B", "h200-8", knobs={"decode": Knobs(chunked_prefill_size=chunk)})
    assert not [f for f in sglang_checks.sglang_findings(decodes) if "chunk" in f.field]
