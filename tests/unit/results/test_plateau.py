from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wideloop.results.plateau import (
    BATCHES,
    Plateau,
    Requests,
    drift,
    find_plateau,
    most_in_flight,
    rate,
    standard_error,
)

TOKENS = 16


def closed_loop(durations: list[list[float]], begin: float = 1000.0, decode: float | None = None) -> Requests:
    """Slots that send their next request the moment the last one ends.

    The last ``decode`` seconds of each, or three quarters of it, bring the tokens.
    """
    start, end = [], []
    for slot in durations:
        at = np.concatenate([[begin], begin + np.cumsum(slot)])
        start.append(at[:-1])
        end.append(at[1:])
    s, e = np.concatenate(start), np.concatenate(end)
    full = np.full(len(s), float(TOKENS))
    return Requests(issued=s, start=s, first=e - (decode or (e - s) * 0.75), end=e, prompt=full * 10, tokens=full)


loops = st.integers(min_value=1, max_value=6).flatmap(
    lambda k: st.lists(st.lists(st.floats(min_value=0.5, max_value=2), min_size=k, max_size=k), min_size=1, max_size=8)
)


@given(loops)
def test_it_lies_between_the_first_end_and_the_last_issue(durations: list[list[float]]) -> None:
    requests = closed_loop(durations)
    plateau = find_plateau(requests, len(durations))
    assert plateau.end == requests.start.max()
    assert plateau.begin == min(plateau.end, requests.end.min())


@given(loops)
def test_a_full_level_is_full_all_over_its_plateau(durations: list[list[float]]) -> None:
    # Slots that run out before the last issue would empty the level: every slot lasts equally long here.
    total = max(sum(slot) for slot in durations)
    stretched = [[d * total / sum(slot) for d in slot] for slot in durations]
    requests = closed_loop(stretched)
    plateau = find_plateau(requests, len(durations))
    if plateau.seconds > 1e-3:
        busy = rate(requests.busy_until, requests, plateau, len(durations))
        assert busy == pytest.approx(len(durations), rel=1e-3)


@given(loops)
def test_counts_start_at_nothing_never_fall_and_end_at_everything(durations: list[list[float]]) -> None:
    requests = closed_loop(durations)
    at = np.linspace(requests.start.min() - 1, requests.end.max() + 1, 50)
    for until, total in (
        (requests.tokens_until(at), requests.tokens.sum()),
        (requests.prompts_until(at), requests.prompt.sum()),
        (requests.done_until(at), len(requests)),
        (requests.busy_until(at), (requests.end - requests.start).sum()),
    ):
        assert until[0] == 0
        assert until[-1] == pytest.approx(total)
        assert (np.diff(until) >= -1e-6).all()


@given(loops, st.floats(min_value=-500, max_value=1e6))
def test_the_clock_does_not_matter(durations: list[list[float]], shift: float) -> None:
    one, other = closed_loop(durations), closed_loop(durations, begin=1000.0 + shift)
    seconds = find_plateau(one, len(durations)).seconds
    assert find_plateau(other, len(durations)).seconds == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize("requests_per_slot", [4, 8, 40])
def test_throughput_does_not_depend_on_how_many_requests_were_sent(requests_per_slot: int) -> None:
    # Eight slots that start at once; their prompts are read one after the other, then they stay staggered.
    durations = [[1.0 + 0.125 * i] + [1.0] * (requests_per_slot - 1) for i in range(8)]
    requests = closed_loop(durations, decode=0.75)
    plateau = find_plateau(requests, 8)
    tokens = rate(requests.tokens_until, requests, plateau, 8)
    error = standard_error(requests.tokens_until, plateau)
    assert tokens == pytest.approx(8 * TOKENS, rel=0.03)
    assert error is not None
    assert error < 0.05 * tokens
    naive = requests.tokens.sum() / (requests.end.max() - requests.start.min())
    assert abs(naive - 8 * TOKENS) > abs(tokens - 8 * TOKENS)


def test_a_load_that_never_filled_has_no_plateau() -> None:
    requests = closed_loop([[1.0] * 5] * 3)
    assert find_plateau(requests, 10).seconds == 0
    empty = Plateau(3.0, 3.0)
    assert rate(requests.tokens_until, requests, empty, 10) == 0.0
    assert standard_error(requests.tokens_until, empty) is None


def test_one_request_per_slot_is_ramp_and_drain_only() -> None:
    assert find_plateau(closed_loop([[1.0]] * 8), 8).seconds == 0


def test_the_error_is_the_spread_of_the_slices() -> None:
    # Ten slices of 10 and 14 per second: s = 2 * sqrt(10 / 9), divided by sqrt(10).
    until = np.cumsum([0.0] + [10.0, 14.0] * (BATCHES // 2))
    counted = Plateau(100.0, 100.0 + BATCHES)
    error = standard_error(lambda at: np.interp(at - counted.begin, np.arange(BATCHES + 1), until), counted)
    assert error == pytest.approx(2 / 3)


@pytest.mark.parametrize("requests_per_slot", [3, 4, 6])
@pytest.mark.parametrize("late", [0.0, 0.1, 0.4])
def test_waves_count_whole(requests_per_slot: int, late: float) -> None:
    """All slots read for a second and write for another, again and again; one is ``late`` and ends the plateau so."""
    durations = [[2.0] * requests_per_slot for _ in range(7)] + [[2.0 + late] + [2.0] * (requests_per_slot - 1)]
    requests = closed_loop(durations, decode=1.0)
    plateau = find_plateau(requests, 8)
    whole = float(np.ptp(requests.tokens_until(np.array([plateau.begin, plateau.end])))) / plateau.seconds
    truth = 8 * TOKENS / 2.0
    found = rate(requests.tokens_until, requests, plateau, 8)
    assert found == pytest.approx(truth, rel=0.02)
    assert late == 0.0 or abs(found - truth) < abs(whole - truth)


@given(loops, st.integers(min_value=1, max_value=12))
def test_a_rate_counts_only_what_came_in_the_plateau(durations: list[list[float]], concurrency: int) -> None:
    requests = closed_loop(durations)
    plateau = find_plateau(requests, len(durations))
    if plateau.seconds > 1e-3:
        seen: list[float] = []

        def count(at: np.ndarray) -> np.ndarray:
            seen.extend(at)
            return 5.0 * at

        assert rate(count, requests, plateau, concurrency) == pytest.approx(5.0)
        assert min(seen) >= plateau.begin and max(seen) <= plateau.end


def test_an_answer_of_one_token_counts_when_it_comes() -> None:
    one = np.array([1.0])
    requests = Requests(issued=one, start=one, first=one * 2, end=one * 2, prompt=one * 8, tokens=one)
    assert requests.tokens_until(np.array([1.9, 2.0])).tolist() == [0, 1]


@given(loops)
def test_a_closed_loop_never_has_more_in_flight_than_slots(durations: list[list[float]]) -> None:
    assert most_in_flight(closed_loop(durations)) == len(durations)


def test_a_deployment_that_slows_down_drifts() -> None:
    change, error = drift(closed_loop([[1.0] * 4 + [1.2] * 4 + [1.5] * 4] * 4))
    assert change == pytest.approx(0.5, rel=0.02)
    assert error < 0.05


@given(loops)
def test_requests_without_a_trend_do_not_drift_beyond_their_scatter(durations: list[list[float]]) -> None:
    change, error = drift(closed_loop([[1.0] * len(slot) for slot in durations]))
    assert (change, error) == (pytest.approx(0, abs=1e-9), pytest.approx(0, abs=1e-9))
