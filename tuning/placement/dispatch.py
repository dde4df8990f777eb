"""Which replica a token goes to, and placements made for that.

Without an all-to-all back end the tokens of an expert are shared evenly by its replicas. With one (DeepEP, ``static``
dispatch) each sender has one replica of each expert: the one on its own GPU, else the first on its node where only some
are there, else a fair draw (SGLang 0.5.17 to 0.5.23, ``srt/eplb/expert_location.py: _find_nearest_expert``). Senders
are taken to have as many tokens each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from wideloop.tuning.placement.placement import Placement

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int64]


def nearest_shares(placement: Placement, experts: int) -> Floats:
    """Share of its expert's tokens that each slot gets under the rule above, [layers, slots]."""
    table, ep, nodes = placement.physical_to_logical, placement.ep, placement.nodes
    layers, slots = table.shape
    node = np.arange(slots) // (slots // nodes)
    replicas = np.take_along_axis(placement.replicas(experts), table, axis=1)
    # Replicas by layer, expert and node, and the first slot of each of these.
    key = (np.arange(layers)[:, None] * experts + table) * nodes + node
    there = np.bincount(key.ravel(), minlength=layers * experts * nodes).reshape(layers, experts, nodes)
    first = np.full(there.size, slots)
    np.minimum.at(first, key.ravel(), np.tile(np.arange(slots), layers))
    on_node = there.ravel()[key]
    is_first = first[key] == np.arange(slots)
    narrows = (there > 0) & (there < there.sum(axis=2, keepdims=True))
    without = ep // nodes - there  # Ranks of a node without a replica of their own.
    fair = np.take_along_axis(np.where(narrows, 0, without).sum(axis=2), table, axis=1)
    of_node = np.where(is_first & (on_node < replicas), ep // nodes - on_node, 0)
    shares = (1 + of_node + fair / replicas) / ep
    total = np.zeros((layers, experts))
    np.add.at(total, (np.arange(layers)[:, None], table), shares)
    # Two replicas on one rank would count its sender twice.
    result: Floats = shares / np.take_along_axis(total, table, axis=1)
    return result


def spread_over_nodes(placement: Placement, load: Floats, gpus_per_node: int) -> Ints:
    """The placement's table with ranks in another order, so that no node has two replicas of an expert where possible.

    One replica on each of some nodes is shared evenly under the rule above, two on one of several are not. The balance
    of an even split does not depend on the order of ranks. Greedy, all layers at once: the rank with most replicated
    load goes first, to the node that has the least of it.

    Args:
        load: [layers, experts], any unit.
    """
    ranks, (layers, experts) = placement.by_rank, load.shape
    ep, capacity = placement.ep, ranks.shape[2]
    nodes = ep // gpus_per_node
    replicas = placement.replicas(experts)
    weight = np.where(replicas > 1, load / np.maximum(replicas, 1), 0.0)
    rows = np.arange(layers)
    own = np.take_along_axis(weight, ranks.reshape(layers, -1), axis=1).reshape(ranks.shape)
    order = np.argsort(-own.sum(axis=2), axis=1, kind="stable")
    present = np.zeros((layers, experts, nodes))
    taken = np.zeros((layers, nodes), dtype=np.int64)
    spread = np.empty_like(ranks)
    for step in range(ep):
        rank = order[:, step]
        held = ranks[rows, rank]
        cost = (present[rows[:, None], held] * own[rows, rank][:, :, None]).sum(axis=1)
        node = np.argmin(np.where(taken < gpus_per_node, cost + 1e-12 * taken, np.inf), axis=1)
        spread[rows, node * gpus_per_node + taken[rows, node]] = held
        taken[rows, node] += 1
        present[rows[:, None], held, node[:, None]] += 1
    return spread.reshape(layers, ep * capacity)
