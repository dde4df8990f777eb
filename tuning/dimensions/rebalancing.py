"""Whether, and how often, the engine rebalances experts while it serves."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from wideloop.manifests.deployment import MOST_PASSES, DeploymentSpec, Knobs, WorkerSpec
from wideloop.manifests.parameters import Parameter
from wideloop.tuning.dimensions.base import Choices
from wideloop.tuning.dimensions.form import SWEEP

#: The choice of a trial whose experts stay where its placement puts them.
OFF = 0


class Rebalancing(Choices):
    """Forward passes between two online rebalances; 0: none, experts are placed by the recording.

    The arm of a sweep against placements made ahead: the engine starts in its own order, and moves experts after what
    it counts, which stops it for a moment each time.
    """

    name = knob = "eplb_rebalance_iterations"
    title, short = "Passes between rebalances", "rebalanced every"
    unit = "passes"
    role = "all"
    value_type = Annotated[int, Field(ge=OFF, le=MOST_PASSES)]
    parameters = (
        Parameter(
            "online_rebalance_iterations",
            "Online rebalancing",
            "Passes between online rebalances to choose from, e.g. [500, 2000]; 0, experts placed by the recording, is "
            "always one of them. Empty: nothing is rebalanced online.",
            SWEEP,
            tuple[value_type, ...] | None,
            [],
            example=[500, 2000],
        ),
    )

    def default(self, spec: DeploymentSpec) -> float:
        worker = self.worker(spec.workers)
        return worker.knobs.eplb_rebalance_iterations if worker.knobs.eplb == "online" else OFF

    def apply(self, value: float, worker: WorkerSpec) -> dict[str, Any]:
        if int(value) == OFF or worker.layout.ep == 1:
            return {}
        return {"eplb": "online", self.knob: int(value), "expert_placement": None}

    def shown(self, knobs: Knobs) -> Any:
        return knobs.eplb_rebalance_iterations if knobs.eplb == "online" else OFF
