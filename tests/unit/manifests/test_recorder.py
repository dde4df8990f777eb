"""What the recorder cannot do is refused before a model is loaded."""

import pytest
from wideloop.manifests import profiles
from wideloop.manifests.deployment import DeploymentSpec, Knobs, WorkerSpec
from wideloop.manifests.hardware import WorkerLayout
from wideloop.manifests.validation import validate

LAYOUT = WorkerLayout(nodes=1, gpus_per_node=8, tp=8, dp=8, ep=8)


def spec(model="DeepSeek-R1", mode="stat", passes=1000, **knobs):
    return DeploymentSpec(
        name="t", target="local", engine="sglang", image="i", model=profiles.model(model), model_path="/m",
        hardware=profiles.hardware("h200-16"), record_experts=mode, recorded_passes=passes,
        workers=(
            WorkerSpec(role="prefill", layout=LAYOUT, knobs=Knobs(**knobs)),
            WorkerSpec(role="decode", layout=LAYOUT),
        ),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "field", "works"),
    [
        ({"deepep_mode": "auto"}, "prefill.deepep_mode", "'normal' for prefill"),
        ({"deepep_mode": "auto", "mode": "per_pass"}, "prefill.deepep_mode", "'normal' for prefill"),
        ({"deepep_mode": "auto", "mode": None, "eplb": "online"}, "prefill.deepep_mode", "'normal' for prefill"),
        ({"mode": "stat_approx"}, "recorder", "'stat'"),
        ({"mode": "stat_approx", "deepep_mode": "low_latency"}, "recorder", "'stat'"),
        ({"mode": "per_token", "model": "Mixtral-8x7B"}, "recorder", "'per_pass'"),
        ({"mode": "per_token", "two_batch_overlap": True}, "prefill.two_batch_overlap", "off"),
        ({"eplb": "online"}, "prefill.eplb", "'static'"),
        ({"eplb": "online", "eplb_rebalance_iterations": 100}, "recorded_passes", "at most 100"),
        ({"eplb": "online", "passes": -1}, "recorded_passes", "at most 1000"),
        ({"passes": 0}, "recorded_passes", "-1"),
    ],
)
def test_what_cannot_be_recorded_is_named_with_what_can(asked, field, works):
    findings = [f for f in validate(spec(**asked)) if f.field == field]
    assert findings
    assert all(works in f.suggestion and f.severity == "error" for f in findings)


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"passes": -1},
        {"mode": "per_token"},
        {"mode": "per_token", "deepep_mode": "auto"},
        {"mode": None, "eplb": "online", "eplb_rebalance_iterations": 50},
        {"mode": None, "deepep_mode": "auto"},
        {"deepep_mode": "normal"},
    ],
)
def test_what_can_be_recorded_is_not_refused(asked):
    assert [f for f in validate(spec(**asked)) if f.severity == "error"] == []
