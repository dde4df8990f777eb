"""The documented example says what the code does, and its optima are the optima."""

import doctest
import itertools
from pathlib import Path

import numpy as np
import pytest
from wideloop.tuning.placement import lower_bound, optimise

DOCUMENT = Path(__file__).parents[4] / "docs" / "eplb.md"
LOAD = np.array([1000.0, 800, 600, 500, 300, 200, 100, 50])


def test_the_document_is_true():
    found = doctest.testfile(str(DOCUMENT), module_relative=False)
    assert found.attempted > 10
    assert found.failed == 0


def best_possible(capacity):
    """The hottest of four GPUs at best, of all placements without an expert twice on a GPU."""
    held = np.array([[e in some for e in range(8)] for some in itertools.combinations(range(8), capacity)], dtype=float)
    pairs = np.array(list(itertools.combinations_with_replacement(range(len(held)), 2)))
    of_pair = held[pairs].sum(axis=1)
    best = np.inf
    for i, one in enumerate(pairs):
        other = i + np.flatnonzero((of_pair[i] + of_pair[i:] > 0).all(axis=1))
        share = LOAD / (of_pair[i] + of_pair[other])
        ranks = [(share * held[one[k]]).sum(axis=1) for k in (0, 1)]
        ranks += [(share * held[pairs[other, k]]).sum(axis=1) for k in (0, 1)]
        best = min(best, np.max(ranks, axis=0).min(initial=np.inf))
    return best


@pytest.mark.parametrize(("redundant", "optimum", "ours"), [(0, 1050, 1050), (4, 900, 917), (8, 891.667, 900.1)])
def test_the_documents_optima_are_the_optima(redundant, optimum, ours):
    found = best_possible(2 + redundant // 4)
    assert found == pytest.approx(optimum, abs=0.001)
    assert lower_bound(LOAD[None], 4, 2 + redundant // 4)[0] <= found
    hottest = optimise(LOAD[None], 4, redundant, effort="exhaustive").hottest[0] * LOAD.sum() / 4
    assert found * (1 - 1e-9) <= hottest <= ours


def test_without_equal_slots_1000_is_the_least():
    """What the 1.8 of the lab's text would take."""
    ranks = np.array(list(itertools.product(range(4), repeat=7)))
    load = np.stack([(ranks == rank) @ LOAD[1:] for rank in range(4)], axis=1)
    load[:, 0] += LOAD[0]
    assert load.max(axis=1).min() == 1000
