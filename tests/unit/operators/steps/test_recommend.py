"""What the cycle concludes from the repeats, and with what certainty."""

from __future__ import annotations

from pathlib import Path

import pytest
from wideloop.operators.steps.recommend import recommend
from wideloop.operators.steps.run import artefacts, open_store
from wideloop.operators.steps.sweep import prepare_study

from tests.unit.operators.steps.measured import CYCLE, PARAMS, baseline, gate, repeated, tried


@pytest.fixture
def best(cycle: Path) -> int:
    """The number of a trial that beat the default, which is number 0, by a quarter."""
    baseline(800.0)
    prepare_study(PARAMS, CYCLE)
    return tried("one", 1000.0).number


def pairs(best: int, ours: list[float], theirs: list[float]) -> None:
    for k, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        repeated(best, k, a)
        repeated(0, k, b)


def test_a_clear_gain_in_two_pairs_is_adopted_with_its_interval(best: int) -> None:
    pairs(best, [1002.0, 1004.0], [800.0, 802.0])
    found = recommend(PARAMS, CYCLE)
    assert (found.verdict, found.trial_number, found.pairs, found.slo_met) == ("adopt", best, 2, True)
    assert found.gain == pytest.approx((1002 / 800 + 1004 / 802) / 2 - 1)
    assert 0 < found.gain_low < found.gain < found.gain_high
    assert (found.confidence, found.simulated) == (0.95, True)
    assert found.knobs and found.default_knobs and found.knobs != found.default_knobs


def test_it_is_kept_in_the_store_and_among_the_artefacts(best: int) -> None:
    pairs(best, [1002.0, 1004.0], [800.0, 802.0])
    found = recommend(PARAMS, CYCLE)
    with open_store() as store:
        assert store.recommendation(CYCLE.cycle_id) == found
    (uri,) = artefacts().list("cycles", CYCLE.cycle_id)
    assert uri.endswith("recommendation.json")
    assert artefacts().read_json(uri)["verdict"] == "adopt"


def test_recommending_again_with_more_pairs_replaces_the_conclusion(best: int) -> None:
    assert recommend(PARAMS, CYCLE).verdict == "inconclusive"
    pairs(best, [1002.0, 1004.0], [800.0, 802.0])
    recommend(PARAMS, CYCLE)
    with open_store() as store:
        kept = store.recommendation(CYCLE.cycle_id)
    assert kept is not None and kept.verdict == "adopt"


def test_a_gain_within_the_scatter_is_inconclusive(best: int) -> None:
    pairs(best, [1000.0, 700.0], [800.0, 900.0])
    found = recommend(PARAMS, CYCLE)
    assert found.verdict == "inconclusive"
    assert found.gain_low < 0 < found.gain_high


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_pairs_give_no_interval(best: int, count: int) -> None:
    pairs(best, [1000.0] * count, [800.0] * count)
    found = recommend(PARAMS, CYCLE)
    assert (found.verdict, found.pairs, found.confidence) == ("inconclusive", 0, 0.0)
    assert found.gain == pytest.approx(0.25)  # of the exploration, which is said
    assert f"only {count} pair" in found.reason


def test_measurements_not_to_be_believed_and_halves_of_pairs_do_not_count(best: int) -> None:
    pairs(best, [1002.0, 1004.0], [800.0, 802.0])
    repeated(best, 2, 9000.0, gates=(gate(False),))
    repeated(0, 2, 800.0)
    repeated(best, 3, 9000.0)
    assert recommend(PARAMS, CYCLE).pairs == 2


def test_only_the_highest_level_is_compared(best: int) -> None:
    pairs(best, [1002.0, 1004.0], [800.0, 802.0])
    for k in range(2):
        repeated(best, k, 10.0, concurrency=8)
        repeated(0, k, 700.0, concurrency=8)
    assert recommend(PARAMS, CYCLE).gain > 0.2


def test_one_that_misses_the_slo_in_its_repeats_is_not_adopted(best: int) -> None:
    repeated(best, 0, 1002.0, ttft_ms_p99=10_000_000)
    repeated(best, 1, 1004.0)
    repeated(0, 0, 800.0)
    repeated(0, 1, 802.0)
    found = recommend(PARAMS, CYCLE)
    assert (found.verdict, found.slo_met) == ("keep default", False)


def test_when_the_default_is_best_it_is_kept(cycle: Path) -> None:
    baseline(800.0)
    prepare_study(PARAMS, CYCLE)
    tried("one", 700.0)
    found = recommend(PARAMS, CYCLE)
    assert (found.verdict, found.trial_number, found.gain, found.pairs) == ("keep default", 0, 0.0, 0)
    assert found.knobs == found.default_knobs


def test_nothing_is_recommended_when_nothing_met_the_objectives(cycle: Path) -> None:
    baseline(800.0, ttft_ms_p99=10_000_000)
    prepare_study(PARAMS, CYCLE)
    with pytest.raises(LookupError, match="no trial met the objectives"):
        recommend(PARAMS, CYCLE)
    with open_store() as store:
        assert store.recommendation(CYCLE.cycle_id) is None
