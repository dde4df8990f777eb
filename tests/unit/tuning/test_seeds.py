"""The first points of a sweep, over the shipped profiles."""

from __future__ import annotations

import pytest
from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.workload import Workload
from wideloop.operators.request import Request
from wideloop.tuning.memory import WorkerMemory, worker_memory
from wideloop.tuning.seeds import Seed, seed_points
from wideloop.tuning.space import Placements, Point, SearchSpace, decoder, knobs_at, point_of

from tests.unit.tuning.test_space import default, searching

LOAD = Workload(concurrency=(32,))
SAFE, EDGE, ALONE = "all memory that is safe", "beyond the model's edge", "placement alone"
PROFILES = [
    ("Qwen3-30B-A3B-FP8", "l4-8"),
    ("Qwen3-30B-A3B", "h100-8"),
    ("Mixtral-8x7B", "h100-8"),
    ("Qwen3-235B-A22B-FP8", "h200-16"),
    ("DeepSeek-R1", "h200-16"),
    ("DeepSeek-V3", "h200-32"),
    ("DeepSeek-R1-0528", "gb200-nvl72"),
]


def seeds(spec: DeploymentSpec) -> tuple[SearchSpace, list[Seed]]:
    space = SearchSpace().including(point_of(spec))
    return space, seed_points(space, spec, LOAD)


def memory_at(point: Point, spec: DeploymentSpec) -> WorkerMemory:
    worker = decoder(spec.with_knobs("y", knobs_at(point, spec, Placements())))
    return worker_memory(spec, worker)


@pytest.mark.parametrize("profile", PROFILES, ids=map("-".join, PROFILES))
def test_seeds_lie_in_the_space_and_have_reasons_of_their_own(profile: tuple[str, str]) -> None:
    space, found = seeds(default(*profile))
    assert found
    assert all(space.contains(s.point) for s in found)
    assert len({s.why for s in found}) == len(found)


@pytest.mark.parametrize("profile", PROFILES, ids=map("-".join, PROFILES))
def test_the_safe_one_is_predicted_to_fit_and_the_edge_is_not(profile: tuple[str, str]) -> None:
    spec = default(*profile)
    _, found = seeds(spec)
    for seed in found:
        memory = memory_at(seed.point, spec)
        if SAFE in seed.why:
            assert memory.fits and memory.free_at_ready_gib - memory.activations_gib >= 0.75
        if EDGE in seed.why:
            assert not memory.fits and memory.deficit_gib > 0


def test_the_demos_sweep_has_all_three() -> None:
    request = Request.from_params({})
    spec = request.spec("x")
    found = seed_points(request.space.including(point_of(spec)), spec, request.workload)
    for why in (SAFE, EDGE, ALONE):
        assert any(why in s.why for s in found), why


def test_the_edge_stands_close_beyond_the_last_that_fits() -> None:
    spec = default()
    _, found = seeds(spec)
    edge = next(s for s in found if EDGE in s.why).point
    inside = {**edge, "mem_fraction_static": edge["mem_fraction_static"] - 0.025}
    assert memory_at(inside, spec).fits and not memory_at(edge, spec).fits


def test_the_recordings_placement_alone_changes_nothing_else() -> None:
    spec = default()
    _, found = seeds(spec)
    alone = next(s for s in found if ALONE in s.why).point
    assert alone == point_of(spec)


def test_without_a_recording_the_default_is_not_tried_twice() -> None:
    spec = default()
    found = seed_points(SearchSpace().including(point_of(spec)), spec, LOAD, recorded=False)
    assert found and point_of(spec) not in [s.point for s in found]


def test_graphs_of_the_safe_one_cover_the_batch_of_a_rank() -> None:
    spec = default()
    space = searching(cuda_graph_max_bs=(2, 64)).including(point_of(spec))
    for concurrency, graph in ((1, 2), (32, 8), (33, 9), (10_000, space["cuda_graph_max_bs"][1])):
        found = seed_points(space, spec, Workload(concurrency=(1, concurrency)))
        safe = next(s for s in found if SAFE in s.why)
        assert safe.point["cuda_graph_max_bs"] == graph, concurrency


def test_where_nothing_is_safe_no_point_is_called_safe() -> None:
    spec = default("DeepSeek-R1", "h100-8")
    _, found = seeds(spec)
    assert not [s for s in found if SAFE in s.why or EDGE in s.why]


def test_the_largest_chunk_is_tried_alone_where_chunks_are_searched() -> None:
    spec = default("Qwen3-30B-A3B", "h200-2")
    space = searching(chunked_prefill_size=(16384,))
    space = space.including(point_of(spec, space))
    seed = next(s for s in seed_points(space, spec, LOAD) if "chunk" in s.why)
    assert seed.point == {**point_of(spec, space), "chunked_prefill_size": 16384}
    assert all(space.contains(s.point) for s in seed_points(space, spec, LOAD))
