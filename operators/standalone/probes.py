"""Points that the driver adds to a sweep: rows of the report that no sampler would ask for."""

from __future__ import annotations

from wideloop.manifests.deployment import DeploymentSpec
from wideloop.tuning.memory import worker_memory
from wideloop.tuning.seeds import Seed
from wideloop.tuning.space import Placements, SearchSpace, decoder, knobs_at, point_of


def probes(space: SearchSpace, spec: DeploymentSpec, *, recorded: bool = True) -> list[Seed]:
    """Redundancy apart from every other knob, and a configuration that the memory model gives no chance.

    Args:
        recorded: there is a recording to place experts by.
    """
    default = point_of(spec, space)
    most = {d.name: bounds[-1] for d, bounds in space.dimensions if d.knob == "redundant_experts"}
    seeds = []
    if most:
        why = "the recorded placement and more slots alone" if recorded else "more slots alone"
        seeds.append(Seed({**default, **most}, "redundancy", why))
    upper = {n: space[n][-1] for n in ("mem_fraction_static", "cuda_graph_max_bs") if n in space}
    worst = {**default, **most, **upper}
    knobs = knobs_at(worst, spec, Placements())
    worker = decoder(spec).changed(knobs=knobs[decoder(spec).role])
    if not worker_memory(spec, worker).fits:
        seeds.append(Seed(worst, "out_of_memory", "certainly out of memory"))
    return seeds
