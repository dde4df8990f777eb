"""The preflight of a target on which nothing was prepared yet."""

from __future__ import annotations

import pytest
from wideloop.manifests.errors import Refused
from wideloop.operators.steps import preflight as step


def test_what_every_run_prepares_first_is_no_error() -> None:
    findings = step.preflight({"target": "local", "engine": "simulated"})
    assert {f.field for f in findings} >= {"model_path"}
    assert [f for f in findings if f.severity != "warning"] == []


def test_what_cannot_work_is_an_error() -> None:
    findings = step.preflight({"target": "local", "engine": "simulated", "redundant_experts": 3})
    assert "prefill.redundant_experts" in {f.field for f in findings if f.severity == "error"}


def test_a_target_that_makes_nothing_says_so() -> None:
    assert step.prepare({"target": "local"}) == []
    with pytest.raises(Refused, match="nothing that target local makes"):
        step.prepare({"target": "local", "create": ["namespace"]})
