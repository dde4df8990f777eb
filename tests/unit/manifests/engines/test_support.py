"""What an engine does not have is refused by name, whatever else it checks."""

from __future__ import annotations

from wideloop.manifests.engines.sglang import SglangEngine

from tests.unit.manifests.engines.test_sglang import spec


class WithoutPlacement(SglangEngine):
    name = "without-placement"
    knobs = SglangEngine.knobs - {"expert_placement", "eplb"}


def test_a_knob_that_the_engine_lacks_is_refused():
    refusals = [f for f in WithoutPlacement().validate(spec(expert_placement="/p.json")) if "not have" in f.rule]
    assert [(f.field, f.value, f.suggestion) for f in refusals] == [
        ("aggregated.expert_placement", "/p.json", "Leave it at None")
    ]


def test_a_knob_at_its_default_is_not_asked_for():
    assert [f for f in WithoutPlacement().validate(spec()) if "not have" in f.rule] == []
