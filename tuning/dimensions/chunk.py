"""Prompt tokens of one prefill step."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from wideloop.manifests.deployment import MOST_CONTEXT, DeploymentSpec
from wideloop.manifests.engines import get_engine
from wideloop.manifests.findings import Finding
from wideloop.manifests.parameters import Parameter
from wideloop.tuning.dimensions.base import Bounds, Choices
from wideloop.tuning.dimensions.form import SWEEP

#: A chunk must be whole pages of the KV cache. This is the largest page of all engines, so that each accepts it.
_LARGEST_PAGE = 128


class PrefillChunk(Choices):
    """Prompt tokens of one step of the whole worker that prefills.

    It is a list of choices, not a range: prompt throughput changes only with its order of magnitude, and an engine
    compiles kernels for each size.
    """

    name = knob = "chunked_prefill_size"
    title, short = "Prefill chunk", "prefill chunk"
    unit = "tokens"
    role = "prefill"
    value_type = Annotated[int, Field(ge=_LARGEST_PAGE, le=MOST_CONTEXT, multiple_of=_LARGEST_PAGE)]
    kept = True
    parameters = (
        Parameter(
            "prefill_chunks",
            "Prefill chunks",
            "Sizes of a prefill chunk to choose from, tokens of the whole worker, e.g. [8192, 16384]; the default's "
            "own is one of them. Empty: it stays what the engine chooses.",
            SWEEP,
            tuple[value_type, ...] | None,
            [],
            example=[8192, 16384],
        ),
    )

    def findings(self, bounds: Bounds, spec: DeploymentSpec) -> list[Finding]:
        """Errors for choices above the scheduler's limit, which would all give the same step."""
        per_rank = get_engine(spec.engine).max_prefill_tokens
        dp = self.worker(spec.workers).layout.dp
        most = per_rank * dp
        rule = (
            f"a scheduler takes {per_rank} prompt tokens into a step at most, and there are {dp} (attention DP): "
            f"more than {most} changes nothing"
        )
        (choices,) = self.parameters
        return [
            Finding(field=choices.name, value=chunk, rule=rule, suggestion=f"Use at most {most}")
            for chunk in bounds
            if chunk > most
        ]
