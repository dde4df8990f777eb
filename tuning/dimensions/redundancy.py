"""Expert slots per GPU beyond the default configuration's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field
from wideloop.manifests.deployment import MOST_EXPERTS, DeploymentSpec, WorkerSpec
from wideloop.manifests.findings import Finding
from wideloop.manifests.parameters import Parameter
from wideloop.tuning.dimensions.base import Bounds, KnobRole, Range
from wideloop.tuning.dimensions.form import BY_ROLE, SWEEP


class RedundantSlots(Range):
    """Difference of expert slots per GPU to the default configuration (negative: fewer).

    A worker's redundant experts change by this times its EP, so a valid default stays valid at every point:
    ``(experts + redundant) % EP == 0``, also where prefill and decode differ in EP.
    """

    knob = "redundant_experts"
    value_type = int

    def __init__(self, role: KnobRole) -> None:
        of_all = role == "all"
        self.role = role
        self.name = "redundant_slots" if of_all else f"{role}_redundant_slots"
        self.title = "Redundant experts" if of_all else f"Redundant experts ({role})"
        self.short = "redundant" if of_all else f"{role} redundant"
        self.by_default = self.kept = of_all
        self.parameters = (
            Parameter(
                "max_redundant_slots" if of_all else f"max_{role}_redundant_slots",
                "Extra expert slots per GPU, at most" if of_all else f"Extra expert slots per {role} GPU, at most",
                "More than the default configuration has. One more slot on each GPU is EP more redundant experts.",
                SWEEP if of_all else BY_ROLE,
                Annotated[int, Field(ge=1, le=MOST_EXPERTS)],
                4,
            ),
        )

    @property
    def key(self) -> str:
        return self.knob if self.role == "all" else f"{self.role}_{self.knob}"

    def default(self, spec: DeploymentSpec) -> float:  # noqa: ARG002
        return 0

    def apply(self, value: float, worker: WorkerSpec) -> dict[str, Any]:
        return {self.knob: redundant_experts(worker, int(value))}

    def widest(self, bounds: Bounds, spec: DeploymentSpec) -> Bounds:
        """Lower the bound to the fewest slots at which no worker lacks an expert."""
        return self.including(bounds, fewest_slots([w for w in spec.workers if self.is_of(w)]))

    def findings(self, bounds: Bounds, spec: DeploymentSpec) -> list[Finding]:
        """A warning where one rank would hold the same expert twice."""
        workers = [w for w in spec.workers if self.is_of(w)]
        if bounds[-1] <= 0 or any(w.layout.ep > 1 for w in workers):
            return []
        rule = "every worker has EP 1: a second copy of an expert on the same GPU costs memory and gains nothing"
        works = f"Leave {self.name} out of dimensions"
        return [
            Finding(
                field="dimensions",
                value=self.name,
                rule=rule,
                suggestion=works,
                severity="warning",
                id="redundancy-on-one-rank",
            )
        ]

    def label(self, value: str) -> str:
        return f"R{value}" if self.role == "all" else super().label(value)


def redundant_experts(worker: WorkerSpec, slots: int) -> int:
    """Redundant experts of a default ``worker`` with ``slots`` more expert slots per GPU."""
    return worker.knobs.redundant_experts + slots * worker.layout.ep


def fewest_slots(workers: Sequence[WorkerSpec]) -> int:
    """The fewest slots per GPU, as a difference to these default ``workers``, at which none lacks an expert; <= 0."""
    return -min(w.knobs.redundant_experts // w.layout.ep for w in workers)
