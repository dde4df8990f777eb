"""Each error of the published recipes is named where a deployment repeats it, and nowhere else."""

import pytest
from wideloop.manifests import profiles, published_errors
from wideloop.manifests.deployment import Knobs, WorkerSpec
from wideloop.manifests.engines import get_engine
from wideloop.manifests.hardware import WorkerLayout
from wideloop.manifests.validation import validate
from wideloop.tuning import memory

from tests.unit.manifests.test_validation import spec


def found(wrong):
    return {f.field: f for f in published_errors.published_error_findings(wrong)}


def test_a_deployment_that_repeats_none_has_none():
    assert found(spec()) == {}
    assert found(spec(hardware="h200-32", knobs=Knobs(redundant_experts=32))) == {}


def test_prefill_on_all_gpus_leaves_none_for_decode():
    """ "32 GPUs (4 x 8)": nodeCount 4 of 8 GPUs for prefill alone, at TP 16."""
    lab = WorkerLayout(nodes=4, gpus_per_node=8, tp=16, dp=1, ep=16)
    workers = tuple(w.model_copy(update={"layout": lab}) if w.role == "prefill" else w for w in spec().workers)
    finding = found(spec(workers=workers, hardware="h100-32"))["prefill.nodes"]
    assert "published manifest for 32 GPUs" in finding.rule
    assert "Use 2 nodes" in finding.suggestion


@pytest.mark.parametrize(("hardware", "named"), [("h100-8", True), ("h100-16", True), ("h200-8", False)])
def test_deepseek_r1_does_not_fit_there(hardware, named):
    """671 GB on 4 or 8 x 80 GB; on 4 x 141 GB it is nobody's error but the user's."""
    profile = profiles.hardware(hardware)
    workers = tuple(WorkerSpec(role=role, layout=layout) for role, layout in profile.workers.items())
    given = get_engine("simulated").resolve(spec(workers=workers, hardware=hardware))
    rules = [f.rule for f in memory.memory_findings(given) if f.severity == "error"]
    assert rules and all("GiB per GPU" in rule for rule in rules)
    assert all(("published manifests" in rule) == named for rule in rules)


@pytest.mark.parametrize(
    ("name", "misleads"), [("r1-8gpu-singlenode", True), ("r1-16gpu", False), ("trial-0a8gpus1", False), ("r1", False)]
)
def test_a_name_that_counts_only_half_of_the_gpus(name, misleads):
    assert ("name" in found(spec().model_copy(update={"name": name}))) == misleads


def test_rules_of_thumb_for_redundancy_do_not_look_at_ep():
    """16 redundant experts, the advice when memory is short, do not divide by EP 72."""
    wide = WorkerLayout(nodes=9, gpus_per_node=8, tp=72, dp=72, ep=72)
    for redundant, wrong in ((16, True), (32, False), (104, False)):
        given = spec(decode=wide, knobs=Knobs(redundant_experts=redundant), hardware="h100-104")
        rules = [f.rule for f in validate(given) if f.field == "decode.redundant_experts"]
        assert any("rules of thumb" in rule for rule in rules) == wrong
