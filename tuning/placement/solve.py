"""A balanced placement for a load, its quality, and the bound for any placement."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from wideloop.tuning.placement.assemble import Effort, Packing, assembled, copies_of
from wideloop.tuning.placement.bound import bounds
from wideloop.tuning.placement.dispatch import spread_over_nodes
from wideloop.tuning.placement.movement import arranged
from wideloop.tuning.placement.packing import items, one_by_one
from wideloop.tuning.placement.placement import Floats, Ints, Placement, rank_load, slots_of, trivial
from wideloop.tuning.placement.replicas import replicas
from wideloop.tuning.placement.search import Objective, judged


@dataclass(frozen=True, eq=False)
class Plan:
    """A placement and how far it is from the best possible.

    Attributes:
        placement: the placement.
        load: the load it was made for, [windows, layers, experts] in units of a layer's mean rank load.
        objective: how windows are combined.
        nodes, groups: as given to :func:`optimise`.
    """

    placement: Placement
    load: Floats
    objective: Objective
    nodes: int
    groups: int

    @cached_property
    def hottest(self) -> Floats:
        """Load of the hottest rank over the mean rank load, [layers]: the layer's time over the least it could take.

        Over several windows their mean, or that of the worst. 1 for layers without load.
        """
        figure = judged(np.stack([rank_load(window, self.placement) for window in self.load]), self.objective)
        return np.where(figure > 0, figure, 1.0)

    @cached_property
    def bound(self) -> Floats:
        """Lower bound of :attr:`hottest` for any placement: [layers]."""
        ep = self.placement.ep
        figure = judged(bounds(self.load, ep, self.placement.slots // ep, self.nodes, self.groups), self.objective)
        return np.where(figure > 0, figure, 1.0)

    @property
    def balancedness(self) -> Floats:
        """Mean over hottest rank load, [layers]."""
        return 1 / self.hottest

    @property
    def gap(self) -> Floats:
        """Largest possible excess over the best placement, as a share of it: [layers]."""
        return self.hottest / self.bound - 1


#: GPUs of a node in most clusters; replicas apart on such nodes are apart on smaller ones, too.
_GPUS_PER_NODE = 8


def place(load: Floats, ep: int, redundant: int) -> Placement:
    """A balanced placement for ``load`` [layers, experts] (any non-negative unit); see :func:`optimise`.

    Layers without load (dense ones: SGLang wants a row for every layer) get the trivial order. Replicas lie as senders
    of eight-GPU nodes want them, which costs nothing where replicas share evenly.

    Raises:
        ValueError: the slots do not divide by ``ep``, or a load is negative or not finite.
    """
    if np.ndim(load) != 2:
        raise ValueError(f"load must be [layers, experts], not {np.shape(load)}")
    nodes = ep // _GPUS_PER_NODE if ep % _GPUS_PER_NODE == 0 else 1
    return replace(optimise(load, ep, redundant, dispatch_nodes=nodes).placement, nodes=1)


def optimise(
    load: Floats,
    ep: int,
    redundant: int,
    *,
    nodes: int = 1,
    groups: int = 1,
    objective: Objective = "mean",
    effort: Effort = "thorough",
    current: Placement | None = None,
    dispatch_nodes: int = 1,
) -> Plan:
    """The placement whose hottest rank has the least load of those tried; deterministic.

    No expert is twice on a rank unless ranks have more slots than there are experts.

    Args:
        load: [layers, experts], or [windows, layers, experts] to hold over several windows of time, each counted
            alike whatever its total.
        ep: expert-parallel ranks; ``redundant``: slots beyond one per expert.
        nodes: with more than one, each of the model's expert ``groups`` stays within a node (EPLB's hierarchical
            mode: a token's groups are limited, so this saves traffic between nodes, and costs balance).
        objective: how windows are combined.
        effort: ``quick`` takes one to three milliseconds for 58 layers of 256 experts and is for comparing
            many settings; ``thorough`` is never worse than EPLB's greedy and searches until no swap helps;
            ``exhaustive`` also tries other numbers of replicas, for some hundred times the time.
        current: the placement that is loaded; of equal results the one that moves fewest slots is returned.
        dispatch_nodes: nodes between which senders prefer their own replicas, 1 where replicas share evenly; the
            placement is made and judged for that (see :mod:`~wideloop.tuning.placement.dispatch`).

    Raises:
        ValueError: the slots do not divide by ``ep``, groups or ranks not by ``nodes``, or a load is negative or
            not finite.
    """
    windows = _windows(load)
    layers, experts = windows.shape[1:]
    capacity = slots_of(experts, redundant, ep) // ep
    _check_nodes(experts, ep, nodes, groups)
    scaled = _in_mean_rank_loads(windows, ep)
    busy = np.flatnonzero(windows.any(axis=(0, 2)))
    table = trivial(layers, experts, redundant, ep).physical_to_logical.copy()
    if busy.size:
        table[busy] = _table(scaled[:, busy], ep, capacity, nodes, groups, objective, effort)
    placement = Placement(table, ep, dispatch_nodes)
    if current is not None:
        placement = replace(arranged(current, placement, nodes), nodes=dispatch_nodes)
    elif dispatch_nodes > 1 and nodes == 1 and redundant and busy.size:
        few = table.copy()
        few[busy] = _table(scaled[:, busy], ep, capacity, 1, 1, objective, effort, at_most=dispatch_nodes)
        placement = _for_dispatch(scaled, placement, Placement(few, ep, dispatch_nodes), objective)
    return Plan(placement, scaled, objective, nodes, groups)


def greedy(load: Floats, ep: int, redundant: int) -> Placement:
    """EPLB's own greedy (but no second replica on a rank while another has room), to compare with.

    Args:
        load: [layers, experts]; layers without load get no meaningful order.

    Raises:
        ValueError: as for :func:`place`.
    """
    mean = _windows(load)[0]
    layers, experts = mean.shape
    capacity = slots_of(experts, redundant, ep) // ep
    counts = replicas(mean, ep, capacity)
    packed = one_by_one(items(mean, counts, ep, capacity), ep, experts)
    return Placement(Packing(packed, counts, copies_of(experts, capacity)).full().reshape(layers, -1), ep)


def _for_dispatch(load: Floats, plain: Placement, few: Placement, objective: Objective) -> Placement:
    """Of both placements, spread over the nodes, the one whose hottest rank has less to do, layer by layer.

    ``few`` has no expert more often than there are nodes, ``plain`` is balanced for an even split.
    """
    mean, gpus = load.mean(axis=0), plain.ep // plain.nodes
    spread = [replace(p, physical_to_logical=spread_over_nodes(p, mean, gpus)) for p in (plain, few)]
    hottest = [judged(np.stack([rank_load(window, p) for window in load]), objective) for p in spread]
    better = (hottest[1] < hottest[0])[:, None]
    return replace(
        plain, physical_to_logical=np.where(better, spread[1].physical_to_logical, spread[0].physical_to_logical)
    )


def _table(
    load: Floats,
    ep: int,
    capacity: int,
    nodes: int,
    groups: int,
    objective: Objective,
    effort: Effort,
    at_most: int | None = None,
) -> Ints:
    """Experts by slot, [layers, slots]; ``load`` is [windows, layers, experts], each layer with some in a window."""
    windows, layers, experts = load.shape
    if nodes == 1:
        return assembled(load, ep, capacity, objective, effort, at_most).reshape(layers, -1)
    by_group = load.reshape(windows, layers, groups, -1).sum(axis=3)
    of_node = assembled(by_group, nodes, groups // nodes, objective, effort)
    size = experts // groups
    # [layers * nodes, experts of a node]: a node of a layer is a placement of its own.
    local = (of_node[..., None] * size + np.arange(size)).reshape(layers * nodes, -1)
    rows = np.repeat(np.arange(layers), nodes)[:, None]
    packed = assembled(load[:, rows, local], ep // nodes, capacity, objective, effort)
    return np.take_along_axis(local, packed.reshape(layers * nodes, -1), axis=1).reshape(layers, -1)


def _in_mean_rank_loads(load: Floats, ep: int) -> Floats:
    """``load`` in units in which windows and layers compare; layers without load stay at 0."""
    total = load.sum(axis=2, keepdims=True)
    result: Floats = np.divide(load * ep, total, out=np.zeros_like(load), where=total > 0)
    return result


def _windows(load: Floats) -> Floats:
    """[windows, layers, experts], checked."""
    load = np.asarray(load, dtype=np.float64)
    if load.ndim not in (2, 3) or not load.size or not np.isfinite(load).all() or (load < 0).any():
        raise ValueError(
            f"load must be finite, non-negative and [layers, experts] or [windows, layers, experts], not {load.shape}"
        )
    return load[None] if load.ndim == 2 else load


def _check_nodes(experts: int, ep: int, nodes: int, groups: int) -> None:
    if nodes < 1 or ep % nodes:
        raise ValueError(f"{ep} ranks do not divide into {nodes} nodes")
    if nodes > 1 and (groups < 1 or experts % groups or groups % nodes):
        raise ValueError(f"{experts} experts in {groups} groups do not divide into {nodes} nodes")
