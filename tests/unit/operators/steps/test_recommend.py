"""What the cycle concludes from the repeats, and with what certainty."""

from __future__ import annotations

from pathlib import Path

import pytest
from wideloop.operators.request import Request
from wideloop.operators.steps import trial
from wideloop.operators.steps.benchmark import Measured
from wideloop.operators.steps.finalists import SweepFailed
from wideloop.operators.steps.recommend import recommend
from wideloop.operators.steps.run import artefacts, open_store
from wideloop.operators.steps.sweep import prepare_study
from wideloop.results.records import Gate

from tests.unit.operators.steps.measured import (
    CYCLE,
    PARAMS,
    READY,
    baseline,
    gate,
    measured,
    out_of_memory,
    repeated,
    trial_run,
    tried,
)


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


def test_a_clear_gain_in_three_pairs_is_adopted_with_its_interval(best: int) -> None:
    pairs(best, [1002.0, 1004.0, 1003.0], [800.0, 802.0, 801.0])
    found = recommend(PARAMS, CYCLE)
    assert (found.verdict, found.trial_number, found.pairs, found.slo_met) == ("adopt", best, 3, True)
    assert found.gain == pytest.approx(1003 / 801 - 1, rel=1e-4)
    assert 0 < found.gain_low < found.gain < found.gain_high
    assert (found.confidence, found.simulated) == (0.95, True)
    assert found.knobs and found.default_knobs and found.knobs != found.default_knobs


def test_it_is_kept_in_the_store_and_among_the_artefacts(best: int) -> None:
    pairs(best, [1002.0, 1004.0, 1003.0], [800.0, 802.0, 801.0])
    found = recommend(PARAMS, CYCLE)
    with open_store() as store:
        assert store.recommendation(CYCLE.cycle_id) == found
    (uri,) = artefacts().list("cycles", CYCLE.cycle_id)
    assert uri.endswith("recommendation.json")
    assert artefacts().read_json(uri)["verdict"] == "adopt"


def test_recommending_again_with_more_pairs_replaces_the_conclusion(best: int) -> None:
    assert recommend(PARAMS, CYCLE).verdict == "inconclusive"
    pairs(best, [1002.0, 1004.0, 1003.0], [800.0, 802.0, 801.0])
    recommend(PARAMS, CYCLE)
    with open_store() as store:
        kept = store.recommendation(CYCLE.cycle_id)
    assert kept is not None and kept.verdict == "adopt"


def test_a_gain_within_the_scatter_is_inconclusive(best: int) -> None:
    pairs(best, [1000.0, 700.0, 800.0], [800.0, 900.0, 700.0])
    found = recommend(PARAMS, CYCLE)
    assert found.verdict == "inconclusive"
    assert found.gain_low < 0 < found.gain_high


@pytest.mark.parametrize("count", [0, 1, 2])
def test_fewer_than_three_pairs_give_no_interval(best: int, count: int) -> None:
    pairs(best, [1000.0] * count, [800.0] * count)
    found = recommend(PARAMS, CYCLE)
    assert (found.verdict, found.pairs, found.confidence) == ("inconclusive", 0, 0.0)
    assert found.gain == pytest.approx(0.25)  # of the exploration, which is said
    assert f"only {count} pair" in found.reason


def test_measurements_not_to_be_believed_and_halves_of_pairs_do_not_count(best: int) -> None:
    pairs(best, [1002.0, 1004.0, 1003.0], [800.0, 802.0, 801.0])
    repeated(best, 3, 9000.0, gates=(gate(False),))
    repeated(0, 3, 800.0)
    repeated(best, 4, 9000.0)
    assert recommend(PARAMS, CYCLE).pairs == 3


def test_only_the_highest_level_is_compared(best: int) -> None:
    pairs(best, [1002.0, 1004.0, 1003.0], [800.0, 802.0, 801.0])
    for k in range(3):
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


def fail_repeat(best: int, repeat: int, kind: str) -> None:
    """A repeat of the best that ends by its own fault, as its run tells it."""
    asked = trial.ask({**PARAMS, "repeat_of": best, "repeat": repeat}, trial_run(f"best-{repeat}"))
    if kind == "out of memory":
        result = Measured(outcome="infeasible", diagnosis=out_of_memory())
    else:
        failed = Gate(name="errors", value=0.09, limit=0.01, ok=False, meaning="")
        repeated(best, repeat, 1000.0, errors=9, gates=(failed,))
        result = measured(1000.0, errors=9, gates=(failed,))
    with pytest.raises(trial.TrialFailed):
        trial.tell({**PARAMS, "repeat_of": best, "repeat": repeat}, asked, trial_run(f"best-{repeat}"), READY, result)


@pytest.mark.parametrize(("kind", "reason"), [("out of memory", "out of memory"), ("errors", "9.4% of its requests")])
def test_a_best_that_fails_a_repeat_is_not_adopted_whatever_its_other_repeats_show(
    best: int, kind: str, reason: str
) -> None:
    pairs(best, [1002.0, 1004.0, 1003.0], [800.0, 802.0, 801.0])
    fail_repeat(best, 3, kind)
    found = recommend(PARAMS, CYCLE)
    assert (found.verdict, found.slo_met, found.pairs) == ("keep default", False, 3)
    assert "1 of 4 repeats of the best configuration failed" in found.reason
    assert reason in found.reason


def test_a_repeat_that_the_client_spoiled_does_not_count_against_the_best(best: int) -> None:
    pairs(best, [1002.0, 1004.0, 1003.0], [800.0, 802.0, 801.0])
    late = Gate(name="client_delay", value=0.5, limit=0.1, ok=False, meaning="")
    repeated(best, 3, 500.0, errors=9, gates=(late,))
    assert recommend(PARAMS, CYCLE).verdict == "adopt"


def test_when_the_default_is_best_it_is_kept(cycle: Path) -> None:
    baseline(800.0)
    prepare_study(PARAMS, CYCLE)
    tried("one", 700.0)
    found = recommend(PARAMS, CYCLE)
    assert (found.verdict, found.trial_number, found.gain, found.pairs) == ("keep default", 0, 0.0, 0)
    assert found.knobs == found.default_knobs


def test_when_nothing_met_the_objectives_the_closest_is_named_with_the_limit_in_its_way(cycle: Path) -> None:
    baseline(800.0, ttft_ms_p99=10_000_000)
    prepare_study(PARAMS, CYCLE)
    limit = Request.from_params(PARAMS).slo.tpot_p99_ms
    closest = tried("one", 1000.0, tpot_ms_p99=1.25 * limit)
    found = recommend(PARAMS, CYCLE)
    assert (found.verdict, found.trial_number, found.slo_met) == ("inconclusive", closest.number, False)
    assert "tpot_p99 is 25.0% above the limit" in found.reason


def test_when_nothing_could_run_there_is_nothing_to_recommend(cycle: Path) -> None:
    prepare_study(PARAMS, CYCLE)
    with pytest.raises(SweepFailed, match="default configuration was never measured"):
        recommend(PARAMS, CYCLE)
    with open_store() as store:
        assert store.recommendation(CYCLE.cycle_id) is None


def test_when_the_best_fails_its_repeats_the_second_is_recommended(best: int) -> None:
    second = tried("second", 980.0).number
    fail_repeat(best, 0, "out of memory")
    for k in range(100, 104):
        repeated(second, k, 980.0 + k)
        repeated(0, k, 700.0 + k)
    found = recommend(PARAMS, CYCLE)
    assert (found.verdict, found.trial_number, found.slo_met) == ("adopt", second, True)
    assert f"trial {best} was expected to be better and failed its repeats" in found.reason
