"""Pods on nodes: what fits, and what does not although there are enough GPUs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from wideloop.manifests.kubernetes.demand import Demand
from wideloop.operators.targets.kubernetes.preflight.node_capacity import Node, unplaced

GPU = "nvidia.com/gpu"


def node(name: str, gpus: int, held: int = 0, **more: object) -> Node:
    values = {"labels": {}, "taints": (), "devices": {GPU: gpus, "rdma/ib": 1000}} | more
    return Node(name=name, gpu=GPU, held=Counter({GPU: held}), **values)  # type: ignore[arg-type]


def demand(component: str, pods: int, gpus: int, **more: object) -> Demand:
    values = {"requests": {}, "limits": {GPU: str(gpus)}, "selector": {}, "tolerations": ()} | more
    return Demand(component=component, pods=pods, **values)  # type: ignore[arg-type]


def test_a_pod_lies_on_one_node() -> None:
    nodes = [node("a", 8, held=4), node("b", 8, held=4)]
    assert unplaced([demand("decode", 1, 8)], nodes) == [demand("decode", 1, 8)]
    assert unplaced([demand("decode", 2, 4)], nodes) == []
    assert unplaced([demand("decode", 1, 8)], nodes, empty=True) == []


def test_small_pods_leave_whole_nodes_to_large_ones() -> None:
    nodes = [node("a", 8), node("b", 8, held=4)]
    assert unplaced([demand("small", 1, 4), demand("large", 1, 8)], nodes) == []


def test_selectors_taints_and_nodes_that_are_not_ready() -> None:
    taint = {"key": "team", "value": "a", "effect": "NoSchedule"}
    nodes = [node("a", 8, taints=(taint,), labels={"pool": "x"})]
    tolerates = ({"key": "team", "operator": "Equal", "value": "a", "effect": "NoSchedule"},)
    assert unplaced([demand("d", 1, 8)], nodes) != []
    assert unplaced([demand("d", 1, 8, tolerations=tolerates)], nodes) == []
    assert unplaced([demand("d", 1, 8, tolerations=tolerates, selector={"pool": "x"})], nodes) == []
    assert unplaced([demand("d", 1, 8, tolerations=tolerates, selector={"pool": "y"})], nodes) != []
    assert unplaced([demand("d", 1, 8)], [node("a", 8, problem="cordoned")]) != []
    soft = {"key": "team", "effect": "PreferNoSchedule"}
    assert unplaced([demand("d", 1, 8)], [node("a", 8, taints=(soft,))]) == []


def test_every_device_of_a_pod_is_on_its_node() -> None:
    both = {GPU: "8", "rdma/ib": "8"}
    without = node("a", 8, devices={GPU: 8})
    assert unplaced([demand("d", 1, 8, limits=both)], [without]) != []
    assert unplaced([demand("d", 1, 8, limits=both)], [without, node("b", 8)]) == []


_sizes = st.sampled_from([1, 2, 4, 8])
_nodes = st.lists(st.tuples(_sizes, st.integers(0, 8)), max_size=6)
_demands = st.lists(st.tuples(st.integers(1, 4), _sizes), max_size=3)


def make(nodes: Sequence[tuple[int, int]], demands: Sequence[tuple[int, int]]) -> tuple[list[Node], list[Demand]]:
    return (
        [node(f"n{i}", gpus, min(held, gpus)) for i, (gpus, held) in enumerate(nodes)],
        [demand(f"d{i}", pods, gpus) for i, (pods, gpus) in enumerate(demands)],
    )


@given(_nodes, _demands)
def test_what_fits_is_never_more_than_what_is_free(
    nodes: list[tuple[int, int]], demands: list[tuple[int, int]]
) -> None:
    there, wanted = make(nodes, demands)
    if not unplaced(wanted, there):
        assert sum(d.pods * d.devices()[GPU] for d in wanted) <= sum(n.free(GPU) for n in there)


@given(_nodes, _demands)
def test_what_does_not_fit_would_fit_with_a_node_for_each_pod(
    nodes: list[tuple[int, int]], demands: list[tuple[int, int]]
) -> None:
    there, wanted = make(nodes, demands)
    pods = sum(d.pods for d in wanted)
    assert unplaced(wanted, [*there, *(node(f"x{i}", 8) for i in range(pods))]) == []


@given(_nodes, _demands, st.randoms())
def test_the_order_of_nodes_does_not_matter_where_sizes_divide_each_other(
    nodes: list[tuple[int, int]], demands: list[tuple[int, int]], random: object
) -> None:
    there, wanted = make(nodes, demands)
    before = unplaced(wanted, there)
    random.shuffle(there)  # type: ignore[attr-defined]
    assert bool(unplaced(wanted, there)) == bool(before)
