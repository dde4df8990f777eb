from __future__ import annotations

import pytest
from pydantic import ValidationError
from wideloop.manifests import profiles
from wideloop.manifests.deployment import DeploymentSpec, Knobs, WorkerSpec


def _spec() -> DeploymentSpec:
    hardware = profiles.hardware("h200-8")
    workers = tuple(WorkerSpec(role=role, layout=layout) for role, layout in hardware.workers.items())
    return DeploymentSpec(
        name="a",
        target="local",
        engine="sglang",
        image="sha256:0",
        model=profiles.model("DeepSeek-R1"),
        model_path="/m",
        hardware=hardware,
        workers=workers,
    )


def test_a_changed_copy_has_the_new_value_and_leaves_the_original_alone():
    knobs = Knobs(redundant_experts=8)
    assert knobs.changed(cuda_graph_max_bs=64) == Knobs(redundant_experts=8, cuda_graph_max_bs=64)
    assert knobs.cuda_graph_max_bs is None


def test_a_value_out_of_bounds_is_refused():
    with pytest.raises(ValidationError, match="greater_than_equal"):
        Knobs().changed(eplb_rebalance_iterations=0)


def test_a_changed_copy_still_tells_what_was_set_from_what_is_a_default():
    assert Knobs(redundant_experts=0).changed(cuda_graph_max_bs=64).model_fields_set == {
        "redundant_experts",
        "cuda_graph_max_bs",
    }


def test_a_misspelt_field_is_refused():
    with pytest.raises(TypeError, match="Knobs has no field redundant_exprts"):
        Knobs().changed(redundant_exprts=4)


def test_a_deployment_is_validated_as_a_whole():
    with pytest.raises(ValidationError, match="must be at most"):
        _spec().changed(name="Not A Name")


def test_parts_that_are_not_changed_are_not_copied():
    spec = _spec()
    assert spec.changed(name="b").model is spec.model


def test_fingerprints_of_specifications_made_before_gpus_had_a_vendor_stay_as_they_are():
    assert {"vendor", "resource"}.isdisjoint(_spec().hardware.gpu.model_dump())
    assert DeploymentSpec.model_validate_json(_spec().model_dump_json()) == _spec()
