"""Share of GPU memory for weights and KV cache."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from wideloop.manifests.parameters import Parameter
from wideloop.tuning.dimensions.base import KnobRole, Range
from wideloop.tuning.dimensions.form import BY_ROLE, SWEEP, upper_and_lower


class MemoryFraction(Range):
    """The memory fraction of the worker that decodes or prefills, in the digits that engines accept.

    Decode's keeps the name that older studies have stored, from before prefill had its own.
    """

    knob = "mem_fraction_static"
    value_type = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
    digits = 3
    grid = 5

    def __init__(self, role: KnobRole) -> None:
        of_decode = role == "decode"
        self.role = role
        self.name = self.knob if of_decode else f"{role}_{self.knob}"
        self.title = "Memory fraction" if of_decode else f"Memory fraction ({role})"
        self.short = "memory" if of_decode else f"{role} memory"
        self.by_default = self.kept = of_decode
        prefix = "" if of_decode else f"{role}_"
        self.parameters: tuple[Parameter, ...] = upper_and_lower(
            (f"min_{prefix}mem_fraction", f"max_{prefix}mem_fraction"),
            self.title,
            "Upper end. Configurations that run out of memory count as infeasible trials.",
            SWEEP if of_decode else BY_ROLE,
            self.value_type,
            (0.8, 0.98),
        )

    def label(self, value: str) -> str:
        return value if self.role == "decode" else super().label(value)
