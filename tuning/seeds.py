"""The first points of a sweep beside the default: its placement alone, and one with memory to spare.

A seed at the optimum of an optimistic model made every sampler worse than a cold start, one with memory to spare made
it better (measured on synthetic surfaces); all other points are the sampler's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from wideloop.tuning.sampler.physics import OfPoint, Physics
from wideloop.tuning.space import Point, SearchSpace

#: GiB per GPU that a safe point leaves free beyond the predicted need: the most of these that the space allows.
_SPARE_GIB = (3.0, 1.5, 0.75)
_STEP = 0.005

#: Kind of a seed. Studies store it, so it does not change, unlike the sentence that people read.
SeedKind = Literal["default", "placement", "safe", "edge", "chunk", "redundancy", "out_of_memory"]


class Seed(NamedTuple):
    """A point, its kind, and the reason for trying it."""

    point: Point
    kind: SeedKind
    why: str


def seed_points(
    space: SearchSpace, default: Point, physics: Physics, *, batch: int | None = None, recorded: bool = True
) -> list[Seed]:
    """Points to try first. Points outside the space are left out.

    Args:
        default: the point of the default configuration.
        batch: requests of a rank that decode at the same time, which CUDA graphs should cover.
        recorded: there is a recording to place experts by. Without one the first point would be the default again.
    """
    seeds = [Seed(default, "placement", "the recorded placement alone")] if recorded else []
    seeds += _safe(default, space, physics, batch)
    return [s for s in seeds if space.contains(s.point)]


def _safe(default: Point, space: SearchSpace, physics: Physics, batch: int | None) -> Iterator[Seed]:
    """One more slot, graphs for the whole batch and the largest memory fraction that is safe by the memory model."""
    if "mem_fraction_static" not in space or physics.headroom_gib is None:
        return
    point = dict(default)
    if "redundant_slots" in space:
        point["redundant_slots"] = 1
    if "cuda_graph_max_bs" in space and batch is not None:
        least, most = space["cuda_graph_max_bs"]
        point["cuda_graph_max_bs"] = min(max(batch, least), most)
    fraction = _largest_fraction(point, space, physics.headroom_gib)
    if fraction is not None:
        more = "one more expert slot, all memory that is safe"
        why = more if "redundant_slots" in space else "all memory that is safe"
        yield Seed({**point, "mem_fraction_static": fraction}, "safe", why)


def _largest_fraction(point: Point, space: SearchSpace, headroom_gib: OfPoint) -> float | None:
    """The largest memory fraction of the space with memory to spare, None when there is none."""
    low, high = space["mem_fraction_static"]
    steps = [round(high - k * _STEP, 3) for k in range(int((high - low) / _STEP) + 1)]
    left = [headroom_gib({**point, "mem_fraction_static": fraction}) for fraction in steps]
    for spare in _SPARE_GIB:
        for fraction, gib in zip(steps, left, strict=True):
            if gib >= spare:
                return fraction
    return None
