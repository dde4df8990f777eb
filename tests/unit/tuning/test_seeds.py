"""The first points of a sweep, over the shipped profiles."""

from __future__ import annotations

import pytest
from wideloop.manifests.deployment import DeploymentSpec
from wideloop.operators.request import Request
from wideloop.tuning.deployment_physics import physics_of
from wideloop.tuning.memory import WorkerMemory, worker_memory
from wideloop.tuning.seeds import Seed, seed_points
from wideloop.tuning.space import Placements, Point, SearchSpace, decoder, knobs_at, point_of

from tests.unit.tuning.test_space import default, searching

SAFE, ALONE = "all memory that is safe", "placement alone"
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
    return space, seeds_of(space, spec)


def seeds_of(space: SearchSpace, spec: DeploymentSpec, concurrency: int = 32, *, recorded: bool = True) -> list[Seed]:
    batch = -(-concurrency // decoder(spec).layout.dp)
    return seed_points(space, point_of(spec, space), physics_of(spec), batch=batch, recorded=recorded)


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
def test_the_safe_one_is_predicted_to_leave_gigabytes(profile: tuple[str, str]) -> None:
    spec = default(*profile)
    _, found = seeds(spec)
    for seed in found:
        memory = memory_at(seed.point, spec)
        if SAFE in seed.why:
            assert memory.fits and memory.free_at_ready_gib - memory.activations_gib >= 0.75


def test_the_demos_sweep_has_both() -> None:
    request = Request.from_params({})
    spec = request.spec("x")
    found = seeds_of(request.space.including(point_of(spec)), spec)
    for why in (SAFE, ALONE):
        assert any(why in s.why for s in found), why


def test_the_recordings_placement_alone_changes_nothing_else() -> None:
    spec = default()
    _, found = seeds(spec)
    alone = next(s for s in found if ALONE in s.why).point
    assert alone == point_of(spec)


def test_without_a_recording_the_default_is_not_tried_twice() -> None:
    spec = default()
    found = seeds_of(SearchSpace().including(point_of(spec)), spec, recorded=False)
    assert found and point_of(spec) not in [s.point for s in found]


def test_graphs_of_the_safe_one_cover_the_batch_of_a_rank() -> None:
    spec = default()
    space = searching(cuda_graph_max_bs=(2, 64)).including(point_of(spec))
    for concurrency, graph in ((1, 2), (32, 8), (33, 9), (10_000, space["cuda_graph_max_bs"][1])):
        found = seeds_of(space, spec, concurrency)
        safe = next(s for s in found if SAFE in s.why)
        assert safe.point["cuda_graph_max_bs"] == graph, concurrency


def test_where_nothing_is_safe_no_point_is_called_safe() -> None:
    spec = default("DeepSeek-R1", "h100-8")
    _, found = seeds(spec)
    assert not [s for s in found if SAFE in s.why]
