"""The performance model against the loads of the two-H200 measurements."""

from __future__ import annotations

import re
import statistics
from pathlib import Path

import pytest

from manifests import profiles
from tuning.calibration.loads import read_loads
from tuning.calibration.page import page
from tuning.calibration.timing import BEFORE, FITTED, errors, fit, predict, split
from tuning.performance import CONSTANTS

ROOT = Path(__file__).parents[4]
HARDWARE = profiles.hardware("h200-8")
LOADS = read_loads(ROOT / "tests" / "data" / "gpu")
USED, HELD_OUT = split(LOADS)
KINDS = ("prefill", "decode", "trial")


def mean_error(loads, constants, kind):
    return statistics.fmean(map(abs, errors([x for x in loads if x.kind == kind], HARDWARE, constants)))


def test_loads_of_cold_and_untuned_servers_are_left_out():
    names = {load.server.name for load in LOADS}
    assert {"r3 b_base", "r3 b_R8_stockcfg", "r5 e_ds"}.isdisjoint(names)
    assert len(LOADS) == 61


def test_no_server_is_on_both_sides_of_the_split():
    assert {x.server.name for x in USED}.isdisjoint({x.server.name for x in HELD_OUT})
    assert {x.kind for x in USED} == {x.kind for x in HELD_OUT} == set(KINDS)


def test_shipped_constants_are_those_fitted_to_every_other_server():
    fitted = fit(USED, HARDWARE)
    for name in FITTED:
        assert getattr(CONSTANTS, name) == pytest.approx(getattr(fitted, name), rel=0.02), name


@pytest.mark.parametrize("kind", KINDS)
def test_fitting_nearly_halves_the_error_on_servers_it_has_not_seen(kind):
    assert mean_error(HELD_OUT, CONSTANTS, kind) < 0.6 * mean_error(HELD_OUT, BEFORE, kind)


@pytest.mark.parametrize(("kind", "limit"), [("prefill", 0.06), ("decode", 0.05), ("trial", 0.07)])
def test_servers_it_has_not_seen_are_predicted_within_a_few_per_cent(kind, limit):
    assert mean_error(HELD_OUT, CONSTANTS, kind) < limit


def test_the_best_trial_is_among_the_predicted_best():
    """Ranking is what the optimiser's prior needs: 15 trials, two of which ran out of memory."""
    trials = [x for x in LOADS if x.kind == "trial"]
    measured = sorted(trials, key=lambda x: -x.measured)
    predicted = sorted(trials, key=lambda x: -predict(x, HARDWARE))
    assert measured[0] in predicted[:3]
    assert set(measured[-3:]) & set(predicted[-4:])


def test_too_few_loads_are_refused():
    with pytest.raises(ValueError, match="give at least that many"):
        fit(LOADS[:3], HARDWARE)


def test_the_page_is_current(monkeypatch):
    """Make it again with the command that stands in it."""
    monkeypatch.chdir(ROOT)
    text = Path("docs/performance.md").read_text()
    profile, *folders = re.search(r"-m tuning\.calibration\.page (.*) > ", text)[1].split()
    assert text == page(profile, list(map(Path, folders)))
