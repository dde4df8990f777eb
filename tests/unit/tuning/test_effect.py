"""Whether an engine did what a placement says, for any load and placement."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from wideloop.tuning.effect import effect, ignoring
from wideloop.tuning.placement import optimise, place

SEEDS = st.integers(0, 2**16)


def loads(seed, layers=6, experts=32):
    """Counts of a skewed popularity, twice recorded."""
    random = np.random.default_rng(seed)
    share = random.dirichlet(np.full(experts, 0.7), size=layers)
    return (random.multinomial(20_000, share).astype(float) for _ in range(2))


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.sampled_from([(4, 0), (4, 4), (8, 8), (16, 16)]))
def test_honoured_and_ignored_are_told_apart(seed, shape):
    ep, redundant = shape
    before, again = loads(seed)
    placement = place(before, ep, redundant)
    assert effect(before, again, placement).state == "honoured"
    assert effect(before, ignoring(again, placement), placement).state == "ignored"


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_other_traffic_is_neither(seed):
    before, _ = loads(seed)
    other, _ = loads(seed + 2**20)
    assert effect(before, other, place(before, 4, 0)).state in ("unclear", "honoured")


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_ignoring_a_placement_keeps_all_tokens(seed):
    before, _ = loads(seed)
    placement = optimise(before, 8, 8, effort="quick").placement
    assert np.array_equal(ignoring(before, placement).sum(axis=1), before.sum(axis=1))


def test_a_layer_used_evenly_does_not_hide_the_others():
    before, again = loads(1)
    placement = place(before, 4, 0)
    before[0] = again[0] = 10.0
    assert effect(before, again, placement).state == "honoured"
    assert effect(np.full((2, 8), 3.0), np.full((2, 8), 3.0), place(np.eye(2, 8), 4, 0)).state == "untold"
