"""An aggregated worker's report: prefill and decode each by itself where the recording tells them apart."""

from __future__ import annotations

import numpy as np
import pytest
from wideloop.results.experts.analysis import role_report
from wideloop.results.experts.role_report import RoleReport
from wideloop.tuning import balance
from wideloop.tuning.placement import optimise, trivial

from tests.unit.results import experts_factory


@pytest.fixture(scope="module")
def recording():
    return experts_factory.aggregated_recording()


def judged(recording):
    spec = experts_factory.aggregated_spec()
    return role_report(spec, spec.worker("aggregated"), recording, experts_factory.WORKLOAD)


@pytest.fixture(scope="module")
def found(recording):
    return judged(recording)


def test_each_phase_has_its_own_measures(recording, found):
    assert [(p.role, p.phase_of, p.passes) for p in found.phases] == [
        ("prefill", "aggregated", 40),
        ("decode", "aggregated", 800),
    ]
    for phase in found.phases:
        load = recording.of(phase.role).astype(float)
        in_order = trivial(len(load), recording.experts, 0, phase.ep)
        assert np.mean(phase.before) == pytest.approx(balance.balance(load, in_order), abs=1e-4)
        assert phase.sglang_balancedness == pytest.approx(balance.sglang_balancedness(load, in_order), abs=1e-4)
        assert phase.gini == pytest.approx(balance.gini(load).mean(), abs=1e-4)
        assert len(phase.balance_by_window[0]) == len(recording.windows[phase.role])
        mean = load[phase.layers[0]].mean()
        assert phase.heat[0][0] == pytest.approx(load[phase.layers[0]][0] / mean, abs=0.01)
        assert phase.persistence is not None and phase.own is not None
    assert sum(p.tokens for p in found.phases) == found.tokens


def test_the_placement_is_that_of_all_passes(recording, found):
    placement = optimise(recording.total.astype(float), found.ep, found.redundant).placement
    for phase in found.phases:
        assert phase.redundant == found.redundant
        seen = balance.balance(recording.of(phase.role).astype(float), placement)
        assert np.mean(phase.after) == pytest.approx(seen, abs=1e-4)
        assert all(after <= best + 1e-3 for after, best in zip(phase.after, phase.best, strict=True))
    assert np.mean(found.phases[1].after) < np.mean(found.after), "it is made of ten times more prefill"


def test_where_passes_are_not_told_apart_the_sum_is_all_there_is(recording, found):
    plain = judged(experts_factory.undivided(recording))
    assert plain.phases == () and plain.note == "its prefill and decode passes were not recorded apart"
    assert (plain.before, plain.after, plain.gini) == (found.before, found.after, found.gini)


def test_reports_of_before_there_were_phases_can_be_read(found):
    old = found.model_dump(mode="json")
    del old["phases"], old["phase_of"]
    assert RoleReport.model_validate(old) == found.model_copy(update={"phases": ()})
    assert RoleReport.model_validate_json(found.model_dump_json()) == found
