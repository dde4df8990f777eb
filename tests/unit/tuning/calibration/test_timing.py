"""The performance model against the loads of the two-H200 measurements."""

from __future__ import annotations

import re
import statistics
from pathlib import Path

import numpy as np
import pytest
from wideloop.manifests import profiles
from wideloop.manifests.engines import get_engine
from wideloop.tuning.calibration.document import page
from wideloop.tuning.calibration.loads import read_loads
from wideloop.tuning.calibration.timing import FITTED, eager, errors, fit, predict, split
from wideloop.tuning.calibration.variants import BEFORE, SHIPPED, soft_maximum
from wideloop.tuning.performance import CONSTANTS

ROOT = Path(__file__).parents[4]
HARDWARE = profiles.hardware("h200-8")
EARLIER = read_loads(ROOT / "tests" / "data" / "gpu")
LATER = [x for cycle in ("tuned", "graphs") for x in read_loads(ROOT / "docs" / "gpu" / cycle, "steps.csv")]
LOADS = EARLIER + LATER
USED, HELD_OUT = split(LOADS)
#: What is judged apart, a kind of load and whether decode steps ran without graphs; and the error to stay below.
JUDGED = {
    ("prefill", False): 0.05,
    ("step", False): 0.05,
    ("step", True): 0.13,
    ("trial", False): 0.03,
    ("trial", True): 0.06,
}


def mean_error(loads, variant, kind, without_graphs):
    found = [x for x in loads if x.kind == kind and eager(x) == without_graphs]
    return statistics.fmean(map(abs, errors(found, HARDWARE, variant)))


def test_loads_of_cold_and_untuned_servers_are_left_out():
    names = {load.server.name for load in LOADS}
    assert {"r3 b_base", "r3 b_R8_stockcfg", "r5 e_ds", "h200-2 baseline-884a581314"}.isdisjoint(names)
    assert (len(EARLIER), len(LATER)) == (61, 93)


def test_no_server_is_on_both_sides_of_the_split():
    assert {x.server.name for x in USED}.isdisjoint({x.server.name for x in HELD_OUT})
    assert {(x.kind, eager(x)) for x in USED} == {(x.kind, eager(x)) for x in HELD_OUT} >= JUDGED.keys()


def test_shipped_constants_are_those_fitted_to_every_other_server():
    """By the page, which is made again below."""
    text = (ROOT / "docs" / "performance.md").read_text()
    for name in FITTED:
        fitted, shipped = re.search(rf"^\| {name} \| .* \| (.*) \| (.*) \|$", text, re.MULTILINE).groups()
        assert float(shipped) == pytest.approx(float(fitted), rel=0.02), name
        assert float(shipped) == pytest.approx(getattr(CONSTANTS, name), rel=0.005), name


@pytest.mark.parametrize(("load", "limit"), list(JUDGED.items()))
def test_servers_it_has_not_seen_are_predicted_within_a_few_per_cent_and_better_than_before(load, limit):
    assert mean_error(HELD_OUT, SHIPPED, *load) < min(limit, 0.65 * mean_error(HELD_OUT, BEFORE, *load))


@pytest.mark.parametrize("without_graphs", [False, True])
def test_what_a_client_sees_of_decode_is_near(without_graphs):
    """Fitted to before nearly alone, it was nearer: 3.5 % with graphs."""
    assert mean_error(HELD_OUT, SHIPPED, "decode", without_graphs) < 0.08


def test_the_best_trial_is_among_the_predicted_best():
    """Ranking is what the optimiser's prior needs: 15 trials, two of which ran out of memory."""
    trials = [x for x in EARLIER if x.kind == "trial"]
    measured = sorted(trials, key=lambda x: -x.measured)
    predicted = sorted(trials, key=lambda x: -predict(x, HARDWARE))
    assert measured[0] in predicted[:3]
    assert set(measured[-3:]) & set(predicted[-4:])


@pytest.mark.parametrize(("kind", "within"), [("prefill", 0.015), ("step", 0.03), ("trial", 0.025)])
def test_the_gain_of_a_placement_is_near_the_measured(kind, within):
    """Nine servers alike but for the placement, every decode step a graph; twice as much was predicted before."""
    alike = [x for x in LATER if x.kind == kind and x.server.name.startswith("h200-2-graphs")]
    sides = [[x for x in alike if x.placed is placed] for placed in (False, True)]
    measured, predicted = (
        statistics.fmean(map(value, sides[1])) / statistics.fmean(map(value, sides[0])) - 1
        for value in (lambda x: x.measured, lambda x: predict(x, HARDWARE))
    )
    assert len(alike) == 9
    assert predicted == pytest.approx(measured, abs=within)


@pytest.mark.parametrize(("exponent", "expected"), [(1, 7.0), (2, 5.0), (np.inf, 4.0)])
def test_a_soft_maximum_lies_between_the_sum_and_the_longer(exponent, expected):
    load = next(x for x in LOADS if eager(x))
    server = load.server
    model = soft_maximum(exponent)(
        server.model,
        HARDWARE,
        server.worker,
        load.popularity,
        load.placement,
        CONSTANTS,
        engine=get_engine(server.engine),
    )
    model.__dict__["_host_ms"] = 3.0
    assert float(model._eager_step_ms(np.array(4.0))) == pytest.approx(expected)


def test_too_few_loads_are_refused():
    with pytest.raises(ValueError, match="give at least that many"):
        fit(LOADS[:3], HARDWARE)


def test_the_page_is_current(monkeypatch):
    """Make it again with the command that stands in it."""
    monkeypatch.chdir(ROOT)
    text = Path("docs/performance.md").read_text()
    profile, *folders = re.search(r"-m wideloop\.tuning\.calibration\.document (.*) > ", text)[1].split()
    assert text == page(profile, list(map(Path, folders)))
