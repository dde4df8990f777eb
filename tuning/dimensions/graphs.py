"""Largest batch that runs as a captured CUDA graph."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from wideloop.manifests.deployment import MOST_RUNNING
from wideloop.tuning.dimensions.base import Range
from wideloop.tuning.dimensions.form import SWEEP, upper_and_lower


class GraphBatch(Range):
    """Largest captured batch per attention-DP rank of the worker that decodes. Prefill captures no such graphs."""

    name = knob = "cuda_graph_max_bs"
    title, short = "CUDA-graph batch", "graph batch"
    unit = "requests per rank"
    role = "decode"
    value_type = Annotated[int, Field(ge=1, le=MOST_RUNNING)]
    by_default = kept = True
    # Doubling the batch has a similar effect at 4 and at 32.
    log = True
    grid = 4
    parameters = upper_and_lower(
        ("min_graph_bs", "max_graph_bs"),
        "CUDA-graph max batch",
        "Upper end of the search.",
        SWEEP,
        value_type,
        (4, 256),
    )

    def label(self, value: str) -> str:
        return value
