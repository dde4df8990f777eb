"""Replicas are judged as SGLang's static dispatch uses them, and placed so that it uses them evenly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from wideloop.tuning.placement import Placement, balancedness, optimise, place, trivial
from wideloop.tuning.placement.dispatch import nearest_shares
from wideloop.tuning.placement.placement import rank_load

EXPERTS = 256


def skewed(layers: int = 6, sigma: float = 0.8, seed: int = 0) -> npt.NDArray[np.float64]:
    return np.random.default_rng(seed).lognormal(0, sigma, (layers, EXPERTS))


def by_sender(load: npt.NDArray[np.float64], placement: Placement, nodes: int) -> npt.NDArray[np.float64]:
    """Load of each rank, sender by sender: own GPU, else first on the node where only some are there, else evenly."""
    ep, per_rank = placement.ep, placement.slots // placement.ep
    ranks = np.zeros((placement.layers, ep))
    for layer, row in enumerate(placement.physical_to_logical):
        for expert in range(load.shape[1]):
            at = [int(slot) // per_rank for slot in np.flatnonzero(row == expert)]
            for sender in range(ep):
                near = [r for r in at if r // (ep // nodes) == sender // (ep // nodes)]
                chosen = at
                if len(at) > 1 and sender in at:
                    chosen = [sender]
                elif 0 < len(near) < len(at):
                    chosen = near[:1]
                for rank in chosen:
                    ranks[layer, rank] += load[layer, expert] / ep / len(chosen)
    return ranks


@pytest.mark.parametrize(("ep", "redundant", "nodes"), [(16, 16, 2), (32, 64, 4), (32, 32, 8), (8, 24, 1)])
def test_a_slots_share_is_what_its_senders_bring(ep: int, redundant: int, nodes: int) -> None:
    load = skewed(2)
    plain = replace(optimise(load, ep, redundant).placement, nodes=nodes)
    assert np.allclose(rank_load(load, plain), by_sender(load, plain, nodes))


def test_shares_of_an_expert_add_up() -> None:
    placement = replace(trivial(3, EXPERTS, 64, 32), nodes=4)
    total = np.zeros((3, EXPERTS))
    shares = nearest_shares(placement, EXPERTS)
    np.add.at(total, (np.arange(3)[:, None], placement.physical_to_logical), shares)
    assert np.allclose(total, 1)


@pytest.mark.parametrize(
    ("ep", "redundant", "nodes"), [(16, 16, 2), (16, 48, 2), (32, 32, 4), (64, 64, 8), (72, 32, 9), (32, 32, 8)]
)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_placement_for_many_nodes_is_balanced_for_its_senders(ep: int, redundant: int, nodes: int, seed: int) -> None:
    load = skewed(seed=seed)
    placement = replace(place(load, ep, redundant), nodes=nodes)
    even = balancedness(load, replace(placement, nodes=1)).mean()
    assert balancedness(load, placement).mean() > even - 0.01
    assert even > balancedness(load, optimise(load, ep, redundant).placement).mean() - 0.01
    assert not placement.wasted().any()


def test_replicas_that_senders_would_not_use_are_known_to_be_worth_less() -> None:
    load = skewed()
    blind = replace(optimise(load, 32, 64).placement, nodes=4)
    aware = optimise(load, 32, 64, dispatch_nodes=4).placement
    assert balancedness(load, aware).mean() > balancedness(load, blind).mean()
    assert aware.nodes == 4
