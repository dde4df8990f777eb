import pytest
from hypothesis import given
from hypothesis import strategies as st
from wideloop.manifests import profiles
from wideloop.manifests.deployment import DeploymentSpec, Knobs, WorkerSpec
from wideloop.manifests.hardware import WorkerLayout
from wideloop.manifests.validation import nearest_redundant, validate


def layout(gpus=8, **changes):
    return WorkerLayout(**{"nodes": 1, "gpus_per_node": gpus, "tp": gpus, "dp": gpus, "ep": gpus, **changes})


def spec(decode=None, knobs=None, workers=None, hardware="h200-16"):
    pair = (
        WorkerSpec(role="prefill", layout=layout()),
        WorkerSpec(role="decode", layout=decode or layout(), knobs=knobs or Knobs()),
    )
    return DeploymentSpec(
        name="t", target="local", engine="simulated", image="sha256:0", model=profiles.model("DeepSeek-R1"),
        model_path="/m", hardware=profiles.hardware(hardware), workers=workers or pair,
    )  # fmt: skip


def test_a_good_deployment_has_no_findings():
    assert validate(spec()) == []
    assert validate(spec(workers=(WorkerSpec(role="aggregated", layout=layout()),))) == []


@pytest.mark.parametrize(
    ("changes", "field", "works"),
    [
        ({"knobs": Knobs(redundant_experts=3)}, "decode.redundant_experts", "0 or 8"),
        ({"knobs": Knobs(redundant_experts=20)}, "decode.redundant_experts", "16 or 24"),
        ({"decode": layout(ep=3)}, "decode.ep", "2"),
        ({"decode": layout(tp=4, dp=4)}, "decode.tp", "8"),
        ({"decode": layout(dp=3)}, "decode.dp", "2"),
        ({"knobs": Knobs.model_construct(**{**Knobs().model_dump(), "mem_fraction_static": 1.2})},
         "decode.mem_fraction_static", "0.8"),
        ({"knobs": Knobs(eplb="static")}, "decode.eplb", "'off'"),
        ({"knobs": Knobs(deepep_mode="low_latency", deepep_dispatch_tokens=64, cuda_graph_max_bs=128)},
         "decode.cuda_graph_max_bs", "64"),
    ],
)  # fmt: skip
def test_a_bad_value_is_named_with_one_that_works(changes, field, works):
    findings = validate(spec(**changes))
    (finding,) = [f for f in findings if f.field == field]
    assert works in finding.suggestion
    assert finding.severity == "error"


@pytest.mark.parametrize(
    "workers",
    [
        (WorkerSpec(role="prefill", layout=layout()),),
        (WorkerSpec(role="decode", layout=layout()),),
        (WorkerSpec(role="aggregated", layout=layout()), WorkerSpec(role="decode", layout=layout())),
    ],
)
def test_a_role_that_is_missing_or_too_much_is_refused(workers):
    assert [f.field for f in validate(spec(workers=workers))] == ["workers"]


def test_a_role_can_occur_once():
    twice = (*spec().workers, WorkerSpec(role="decode", layout=layout(4)))
    assert "a role can occur once" in str(validate(spec(workers=twice, hardware="h200-32")))


def test_more_gpus_than_there_are_is_refused():
    assert "has 8 GPUs" in str(validate(spec(hardware="h200-8")))
    wide = WorkerLayout(nodes=1, gpus_per_node=16, tp=16, dp=16, ep=16)
    fields = [f.field for f in validate(spec(decode=wide, hardware="h200-32"))]
    assert fields == ["decode.gpus_per_node"]


@given(st.integers(2, 512), st.integers(1, 144), st.integers(0, 600))
def test_the_suggested_redundancy_always_divides(experts, ep, redundant):
    for suggestion in nearest_redundant(experts, ep, redundant):
        assert suggestion >= 0
        assert (experts + suggestion) % ep == 0
        assert abs(suggestion - redundant) <= ep
