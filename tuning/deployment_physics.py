"""What the models of a deployment say of the points of its search space."""

from __future__ import annotations

from collections.abc import Mapping

from wideloop.manifests.deployment import DeploymentSpec, WorkerSpec
from wideloop.tuning.memory import worker_memory
from wideloop.tuning.sampler.physics import Physics
from wideloop.tuning.space import Placements, knobs_at


def physics_of(spec: DeploymentSpec) -> Physics:
    """The models of a resolved default ``spec``: memory left by the tightest of its workers."""

    def headroom_gib(point: Mapping[str, float]) -> float:
        knobs = knobs_at(point, spec, Placements())
        return min(_left_gib(spec, worker.changed(knobs=knobs[worker.role])) for worker in spec.workers)

    return Physics(headroom_gib=headroom_gib)


def _left_gib(spec: DeploymentSpec, worker: WorkerSpec) -> float:
    """GiB per GPU that the model sees left while ``worker`` runs its largest step; negative: missing."""
    memory = worker_memory(spec, worker)
    if memory.fits:
        return memory.free_at_ready_gib - max(memory.activations_gib, 0.0)
    return -max(memory.deficit_gib, 0.01)
