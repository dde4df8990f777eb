"""A placement file that the deployment cannot load is refused before it is launched, by name."""

import json

import numpy as np
import pytest
from wideloop.manifests import profiles
from wideloop.manifests.deployment import DeploymentSpec, Knobs, WorkerSpec
from wideloop.manifests.hardware import WorkerLayout
from wideloop.operators.steps.plan import check
from wideloop.tuning.placement import place, trivial
from wideloop.tuning.placement.files import to_sglang
from wideloop.tuning.placement.findings import placement_findings

MODEL = profiles.model("Qwen3-30B-A3B")


def spec(file, ep=4, redundant=0):
    layout = WorkerLayout(nodes=1, gpus_per_node=ep, tp=ep, dp=1, ep=ep)
    knobs = Knobs(
        expert_placement=str(file), eplb="static", redundant_experts=redundant, mem_fraction_static=0.8,
        cuda_graph_max_bs=16, chunked_prefill_size=4096,
    )  # fmt: skip
    return DeploymentSpec(
        name="t", target="local", engine="simulated", image="i", model=MODEL, model_path="/m",
        hardware=profiles.hardware("h200-8"),
        workers=(WorkerSpec(role="aggregated", layout=layout, knobs=knobs),),
    )  # fmt: skip


def written(path, placement):
    path.write_text(to_sglang(placement))
    return path


def made(tmp_path, ep, redundant, layers=MODEL.num_layers):
    load = np.random.default_rng(0).lognormal(size=(layers, MODEL.num_experts))
    return written(tmp_path / "p.json", place(load, ep, redundant))


def test_a_placement_of_this_deployment_is_accepted(tmp_path):
    assert placement_findings(spec(made(tmp_path, 4, 8), redundant=8)) == []
    assert placement_findings(spec(made(tmp_path, 4, 0), redundant=0)) == []


@pytest.mark.parametrize(
    ("ep", "redundant", "rule", "works"),
    [
        (3, 1, "does not place 128 experts on 4 ranks", "Make one"),  # made for another EP size
        (4, 8, "places 136 slots, and 128 experts", "redundant_experts 8"),  # for another redundancy
    ],
)
def test_a_placement_of_another_shape_is_named(tmp_path, ep, redundant, rule, works):
    (found,) = placement_findings(spec(made(tmp_path, ep, redundant)))
    assert found.field == "aggregated.expert_placement"
    assert rule in found.rule and works in found.suggestion


def test_a_placement_of_another_model_is_named(tmp_path):
    (found,) = placement_findings(spec(made(tmp_path, 4, 0, layers=5)))
    assert "has 5 layers, the model 48" in found.rule
    other = written(tmp_path / "q.json", trivial(MODEL.num_layers, 64, 64, 4))
    assert "without any slot" in placement_findings(spec(other))[0].rule


def test_a_launch_refuses_it_too(tmp_path):
    (tmp_path / "bad.json").write_text(json.dumps({"physical_to_logical_map": [[0]], "extra": 1}))
    found = [f for f in check(spec(tmp_path / "bad.json")) if f.field.endswith("expert_placement")]
    assert found and "nothing else" in found[0].rule
    missing = [f for f in check(spec(tmp_path / "none.json")) if f.field.endswith("expert_placement")]
    assert missing and "FileNotFoundError" in missing[0].rule
