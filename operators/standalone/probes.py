"""Points that the driver adds to a sweep: rows of the report that no sampler would ask for."""

from __future__ import annotations

from wideloop.manifests.deployment import DeploymentSpec
from wideloop.tuning.memory import worker_memory
from wideloop.tuning.seeds import Seed
from wideloop.tuning.space import Placements, SearchSpace, decoder, knobs_at, point_of

PLACEMENT = "the recorded placement alone"
REDUNDANCY = "the recorded placement and more slots alone"
CERTAIN = "certainly out of memory"


def probes(space: SearchSpace, spec: DeploymentSpec) -> list[Seed]:
    """Redundancy apart from every other knob, and a configuration that the memory model gives no chance.

    Between the two, ``wideloop.tuning.seeds`` has one just beyond the edge that the model sees.
    """
    default = point_of(spec, space)
    slots = float(space.redundant_slots[1])
    found = [Seed({**default, "redundant_slots": slots}, REDUNDANCY)]
    worst = {
        **default,
        "redundant_slots": slots,
        "mem_fraction_static": space.mem_fraction_static[1],
        "cuda_graph_max_bs": float(space.cuda_graph_max_bs[1]),
    }
    knobs = knobs_at(worst, spec, Placements())
    worker = decoder(spec).model_copy(update={"knobs": knobs[decoder(spec).role]})
    if not worker_memory(spec.model, spec.hardware.gpu, worker).fits:
        found.append(Seed(worst, CERTAIN))
    return found
