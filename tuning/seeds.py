"""The first points of a sweep, chosen by the memory model to save trials.

Seeds at the optimum of an optimistic model made every sampler worse than a cold start; seeds with memory to spare
made it better (measured on a surrogate, 20 seeds). One more point lies just beyond the model's memory limit, because
the model's limit needs a measurement.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, NamedTuple

from wideloop.manifests.deployment import DeploymentSpec, WorkerSpec
from wideloop.manifests.workload import Workload
from wideloop.tuning.memory import worker_memory
from wideloop.tuning.space import Placements, Point, SearchSpace, decoder, knobs_at, point_of, prefiller

#: GiB per GPU that a safe point leaves free beyond the predicted need.
_SPARE_GIB = 0.75
_STEP = 0.005

#: Kind of a seed. Studies store it, so it does not change, unlike the sentence that people read.
SeedKind = Literal["default", "placement", "safe", "edge", "chunk", "redundancy", "out_of_memory"]


class Seed(NamedTuple):
    """A point, its kind, and the reason for trying it."""

    point: Point
    kind: SeedKind
    why: str


def seed_points(space: SearchSpace, spec: DeploymentSpec, workload: Workload, *, recorded: bool = True) -> list[Seed]:
    """Points to try first, for a resolved default ``spec``: the recording's placement alone, with one more
    slot and all memory that is safe, just beyond the edge of memory, and the largest prefill chunk where chunks are
    searched. Points outside the space, and those of dimensions that are not searched, are left out.

    ``recorded``: there is a recording to place experts by. Without one the first point would be the default again.
    """
    default = point_of(spec, space)
    seeds = [Seed(default, "placement", "the recorded placement alone")] if recorded else []
    seeds += _memory_seeds(default, space, spec, workload)
    for chunk in space["chunked_prefill_size"][-1:] if "chunked_prefill_size" in space else ():
        largest: Point = {**default, "chunked_prefill_size": chunk}
        if largest != default and _left_gib(largest, spec, prefiller(spec)) >= 0:
            seeds.append(Seed(largest, "chunk", "the largest prefill chunk alone"))
    return [s for s in seeds if space.contains(s.point)]


def _memory_seeds(default: Point, space: SearchSpace, spec: DeploymentSpec, workload: Workload) -> Iterator[Seed]:
    if "mem_fraction_static" not in space:
        return
    one = dict(default)
    if "redundant_slots" in space:
        one["redundant_slots"] = 1
    if "cuda_graph_max_bs" in space:
        least, most = space["cuda_graph_max_bs"]
        batch = -(-max(workload.concurrency) // decoder(spec).layout.dp)
        one["cuda_graph_max_bs"] = min(max(batch, least), most)
    safe = _largest_fraction(one, space, spec, _SPARE_GIB)
    if safe is not None:
        more = "one more expert slot, all memory that is safe"
        why = more if "redundant_slots" in space else "all memory that is safe"
        yield Seed({**one, "mem_fraction_static": safe}, "safe", why)
    edge = _largest_fraction(default, space, spec, 0.0)
    if edge is not None:
        beyond = round(edge + 4 * _STEP, 3)
        yield Seed({**default, "mem_fraction_static": beyond}, "edge", "just beyond the model's edge of memory")


def _largest_fraction(point: Point, space: SearchSpace, spec: DeploymentSpec, spare_gib: float) -> float | None:
    """The largest memory fraction of the space at which the model sees ``spare_gib`` left, None when none is."""
    low, high = space["mem_fraction_static"]
    fraction = round(high, 3)
    while fraction >= low:
        if _left_gib({**point, "mem_fraction_static": fraction}, spec, decoder(spec)) >= spare_gib:
            return fraction
        fraction = round(fraction - _STEP, 3)
    return None


def _left_gib(point: Point, spec: DeploymentSpec, worker: WorkerSpec) -> float:
    """GiB per GPU that the model sees left while ``worker`` runs its largest step; -inf where it does not fit."""
    knobs = knobs_at(point, spec, Placements())[worker.role]
    memory = worker_memory(spec, worker.changed(knobs=knobs))
    return memory.free_at_ready_gib - max(memory.activations_gib, 0.0) if memory.fits else -math.inf
