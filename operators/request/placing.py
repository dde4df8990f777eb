"""Which workers' experts can be placed by a recording, and what a deployment with placed experts looks like."""

from __future__ import annotations

from wideloop.manifests.deployment import DeploymentSpec, Knobs, WorkerSpec
from wideloop.manifests.engines import get_engine
from wideloop.manifests.hardware import Role

#: Path of a placement file that a later stage will write.
LATER = "placement-of-the-recording.json"


def why_not_placed(spec: DeploymentSpec) -> str | None:
    """The reason why a recording of ``spec`` leads to no placement; None where it does."""
    engine = get_engine(spec.engine)
    if engine.recorder is None:
        return f"engine {spec.engine} cannot record experts: no placement"
    if not any(map(is_placed, spec.workers)):
        return "every worker has EP 1: each GPU holds all experts, so there is nothing to place"
    in_order = {str(f) for f in engine.validate(spec)}
    refusals = [f for f in engine.validate(placed_later(spec)) if f.severity == "error" and str(f) not in in_order]
    return f"placed experts cannot be served: {refusals[0].rule}. {refusals[0].suggestion}" if refusals else None


def is_placed(worker: WorkerSpec) -> bool:
    """Whether the worker's experts are divided among ranks, so that a placement changes anything."""
    return worker.layout.ep > 1


def placed_later(spec: DeploymentSpec) -> DeploymentSpec:
    """``spec`` with a placement by a recording to come on every worker that can have one and does not rebalance."""
    knobs: dict[Role, Knobs] = {
        worker.role: worker.knobs.changed(eplb="static", expert_placement=LATER)
        for worker in spec.workers
        if is_placed(worker) and worker.knobs.eplb != "online"
    }
    return spec.with_knobs(spec.name, knobs)
