"""What a claim must be."""

from __future__ import annotations

import pytest
from wideloop.operators.targets.kubernetes.claims import judge_claim


def claim(*modes: str, size: str = "80G", phase: str = "Bound") -> dict:
    spec = {"accessModes": modes, "resources": {"requests": {"storage": size}}}
    return {"metadata": {"name": "c"}, "spec": spec, "status": {"phase": phase, "capacity": {"storage": size}}}


@pytest.mark.parametrize("field", ["model_claim", "files_claim"])
@pytest.mark.parametrize("mode", ["ReadOnlyMany", "ReadWriteOnce", "ReadWriteOncePod"])
def test_what_several_nodes_cannot_write_to_is_refused_by_the_field_that_names_it(field: str, mode: str) -> None:
    (finding,) = judge_claim(field, claim(mode), 0)
    assert finding.field == field
    assert finding.rule == f"is {mode}: it cannot be written from several nodes"
    assert "ReadWriteMany" in finding.suggestion


def test_one_that_several_nodes_can_write_to_among_other_modes_is_good() -> None:
    assert judge_claim("files_claim", claim("ReadOnlyMany", "ReadWriteMany"), 0) == []


@pytest.mark.parametrize(("size", "named"), [("500G", True), ("500Gi", True), ("400G", False), ("600G", False)])
def test_the_size_that_a_published_lab_asks_for_is_named(size: str, named: bool) -> None:
    (finding,) = judge_claim("model_claim", claim("ReadWriteMany", size=size), 690 * 10**9)
    assert ("published storage requirements of DeepSeek-R1 (500 GB)" in finding.rule) == named


def test_size_and_loss_are_said_of_the_same_field() -> None:
    found = judge_claim("model_claim", claim("ReadWriteMany", phase="Lost"), 100 * 10**9)
    assert [f.field for f in found] == ["model_claim"] * 2
    assert found[0].rule == "has 80 GB where the model takes 100 GB"
