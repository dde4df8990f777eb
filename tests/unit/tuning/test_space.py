"""Every point a sweep may propose is one that the engine accepts."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError
from wideloop.manifests import profiles
from wideloop.manifests.deployment import DeploymentSpec, Knobs, WorkerSpec
from wideloop.manifests.engines import get_engine
from wideloop.manifests.errors import Refused
from wideloop.manifests.validation import validate
from wideloop.tuning.dimensions.redundancy import fewest_slots
from wideloop.tuning.space import (
    Placements,
    SearchSpace,
    decoder,
    knobs_at,
    point_of,
    prefiller,
    redundancies,
    space_findings,
)

CHUNK = "chunked_prefill_size"
SHIPPED = st.tuples(st.sampled_from(profiles.model_names()), st.sampled_from(profiles.hardware_names()))


def searching(**bounds: tuple[float, ...]) -> SearchSpace:
    """The usual space with other bounds, or with more dimensions."""
    return SearchSpace(**{**SearchSpace().model_dump(), **bounds})


def default(model: str = "Qwen3-30B-A3B-FP8", hardware: str = "l4-8") -> DeploymentSpec:
    """The resolved default configuration of a profile."""
    layouts = profiles.hardware(hardware)
    spec = DeploymentSpec(
        name="x",
        target="local",
        engine="simulated",
        image="x",
        model=profiles.model(model),
        model_path="x",
        hardware=layouts,
        workers=tuple(WorkerSpec(role=r, layout=w) for r, w in layouts.workers.items()),
    )
    return get_engine("simulated").resolve(spec)


@given(profile=SHIPPED, extra=st.integers(0, 3), slots=st.integers(-4, 8), fraction=st.floats(0.01, 0.99))
def test_every_point_of_a_valid_default_is_valid_and_the_default_stands_at_zero(
    profile: tuple[str, str], extra: int, slots: int, fraction: float
) -> None:
    spec = default(*profile)
    assume(not [f for f in validate(spec) if f.field.endswith((".ep", ".tp", ".dp")) or f.field == "workers"])
    # A default of its own for each role: what divides by its EP, and some slots more.
    knobs = {
        w.role: w.knobs.model_copy(
            update={"redundant_experts": -spec.model.num_experts % w.layout.ep + extra * w.layout.ep}
        )
        for w in spec.workers
    }
    spec = spec.with_knobs("x", knobs)
    assert knobs_at(point_of(spec), spec, Placements()) == knobs
    assert -fewest_slots(spec.workers) >= extra
    slots = max(slots, fewest_slots(spec.workers))
    point = {"redundant_slots": slots, "mem_fraction_static": fraction, "cuda_graph_max_bs": 8}
    moved = spec.with_knobs("y", knobs_at(point, spec, Placements()))
    assert validate(moved) == []
    for worker in spec.workers:
        more = moved.worker(worker.role).knobs.redundant_experts - worker.knobs.redundant_experts
        assert more == slots * worker.layout.ep


def test_memory_and_graphs_are_of_the_worker_that_decodes() -> None:
    spec = default()
    knobs = knobs_at({"redundant_slots": 2, "mem_fraction_static": 0.7, "cuda_graph_max_bs": 8}, spec, Placements())
    before = spec.worker("prefill").knobs
    assert knobs["decode"].mem_fraction_static == 0.7 and knobs["decode"].cuda_graph_max_bs == 8
    assert knobs["prefill"] == before.model_copy(update={"redundant_experts": 2 * spec.worker("prefill").layout.ep})


def test_a_placement_is_used_where_one_was_made_for_that_redundancy() -> None:
    spec = default()
    point = {"redundant_slots": 1, "mem_fraction_static": 0.7, "cuda_graph_max_bs": 8}
    made = Placements(files={"decode-4": "d4.json", "prefill-0": "p0.json"})
    knobs = knobs_at(point, spec, made)
    assert (knobs["decode"].expert_placement, knobs["decode"].eplb) == ("d4.json", "static")
    assert (knobs["prefill"].expert_placement, knobs["prefill"].eplb) == (None, "off")


def test_a_spec_whose_knobs_are_open_stands_nowhere() -> None:
    spec = default()
    opened = spec.with_knobs("y", {"decode": Knobs()})
    with pytest.raises(ValueError, match="not resolved"):
        point_of(opened)


def test_the_worker_that_decodes_is_decode_or_aggregated() -> None:
    spec = default()
    alone = spec.workers[0].model_copy(update={"role": "aggregated"})
    assert decoder(spec).role == "decode"
    assert decoder(spec.model_copy(update={"workers": (alone,)})).role == "aggregated"


@given(slots=st.integers(0, 32), fraction=st.floats(0.01, 0.99), graph=st.integers(1, 1024), low=st.floats(0.1, 0.5))
def test_a_space_widened_to_a_point_holds_it_and_all_it_held(
    slots: int, fraction: float, graph: int, low: float
) -> None:
    space = searching(mem_fraction_static=(low, 0.9))
    point = {"redundant_slots": slots, "mem_fraction_static": fraction, "cuda_graph_max_bs": graph}
    wider = space.including(point)
    assert wider.contains(point)
    for name, (a, b) in space.model_dump().items():
        assert wider[name][0] <= a and b <= wider[name][1]
    if space.contains(point):
        assert wider == space


@pytest.mark.parametrize(
    "bounds",
    [{"redundant_slots": (3, 3)}, {"mem_fraction_static": (0.9, 0.8)}, {"cuda_graph_max_bs": (8, 4)}],
)
def test_bounds_the_wrong_way_round_are_refused_by_name(bounds: dict[str, tuple[float, float]]) -> None:
    with pytest.raises(ValidationError, match=next(iter(bounds))):
        SearchSpace.model_validate(bounds)


@pytest.mark.parametrize(
    "bounds",
    [{"mem_fraction_static": (0.5, 1.0)}, {"mem_fraction_static": (0.0, 0.5)},
     {"cuda_graph_max_bs": (0, 4)}, {"chunked_prefill_size": (8192, 1000)}, {"chunked_prefill_size": (0,)}],
)  # fmt: skip
def test_bounds_that_no_engine_takes_are_refused(bounds: dict[str, tuple[float, float]]) -> None:
    with pytest.raises(ValidationError, match=next(iter(bounds))):
        SearchSpace.model_validate(bounds)


# ---- the prefill chunk


@pytest.mark.parametrize("hardware", ["l4-8", "h200-2"])
def test_a_chunk_is_of_the_worker_that_prefills_and_changes_nothing_else(hardware: str) -> None:
    spec = default(hardware=hardware)
    space = searching(chunked_prefill_size=(16384, 4096)).including(point_of(spec, SearchSpace()) | {CHUNK: 2048})
    assert space[CHUNK] == (2048, 4096, 16384)
    point = {**point_of(spec, space), CHUNK: 4096}
    assert space.contains(point) and not space.contains({**point, CHUNK: 8192})
    knobs = knobs_at(point, spec, Placements())
    for worker in spec.workers:
        changed = {CHUNK: 4096} if worker.role == prefiller(spec).role else {}
        assert knobs[worker.role] == worker.knobs.model_copy(update=changed)


def test_a_dimension_that_is_off_leaves_no_trace() -> None:
    spec = default()
    assert CHUNK not in SearchSpace().model_dump() and CHUNK not in point_of(spec, SearchSpace())
    assert CHUNK not in SearchSpace().distributions()
    searched = searching(chunked_prefill_size=(4096, 8192))
    assert SearchSpace.model_validate(searched.model_dump(mode="json")) == searched
    assert searched.distributions()[CHUNK].choices == (4096, 8192)


def test_chunks_that_a_scheduler_would_cut_to_the_same_are_refused() -> None:
    spec = default(hardware="l4-8")
    per_rank = searching(chunked_prefill_size=(8192, 16384 * prefiller(spec).layout.dp, 524288))
    (found,) = space_findings(per_rank, spec)
    assert found.value == 524288 and "16384" in found.suggestion and found.severity == "error"
    assert space_findings(SearchSpace(), spec) == []


# ---- roles


def test_prefill_and_decode_are_varied_apart() -> None:
    spec = default()
    space = SearchSpace(
        prefill_redundant_slots=(0, 2), decode_redundant_slots=(0, 4), prefill_mem_fraction_static=(0.5, 0.9)
    ).around(spec)
    point = {"prefill_redundant_slots": 1, "decode_redundant_slots": 3, "prefill_mem_fraction_static": 0.6}
    assert space.contains(point) and space_findings(space, spec) == []
    knobs = knobs_at(point, spec, Placements())
    prefill, decode = spec.worker("prefill"), spec.worker("decode")
    assert knobs["prefill"] == prefill.knobs.changed(redundant_experts=prefill.layout.ep, mem_fraction_static=0.6)
    assert knobs["decode"] == decode.knobs.changed(redundant_experts=3 * decode.layout.ep)
    assert redundancies(space, prefill) == {0, prefill.layout.ep, 2 * prefill.layout.ep}


def test_where_redundancy_is_not_varied_the_defaults_own_is_placed() -> None:
    spec = default()
    space = SearchSpace(mem_fraction_static=(0.5, 0.9))
    assert redundancies(space, spec.worker("decode")) == {0}
    knobs = knobs_at({"mem_fraction_static": 0.6}, spec, Placements(files={"decode-0": "d.json"}))
    assert (knobs["decode"].expert_placement, knobs["decode"].eplb) == ("d.json", "static")


def test_two_dimensions_that_set_the_same_knob_of_a_worker_are_refused() -> None:
    spec = default()
    twice = searching(prefill_redundant_slots=(0, 2))
    (finding,) = space_findings(twice, spec)
    assert (finding.field, finding.value) == ("dimensions", ["redundant_slots", "prefill_redundant_slots"])
    assert "prefill worker" in finding.rule and "Leave out" in finding.suggestion


def test_of_an_aggregated_worker_the_memory_of_prefill_and_decode_is_one() -> None:
    both = searching(prefill_mem_fraction_static=(0.5, 0.9))
    assert space_findings(both, default()) == []
    (finding,) = space_findings(both, default(hardware="h200-2"))
    assert finding.value == ["mem_fraction_static", "prefill_mem_fraction_static"]


def test_a_dimension_that_does_not_exist_is_refused_with_the_nearest() -> None:
    with pytest.raises(Refused, match="Did you mean 'redundant_slots'"):
        SearchSpace(redundant_slot=(0, 1))
