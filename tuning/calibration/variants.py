"""Performance models to compare: the shipped one, its predecessor, and other rules for steps without a graph."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from wideloop.tuning.performance import CONSTANTS, Constants, Floats, WorkerModel


@dataclass(frozen=True)
class Variant:
    """A way to predict a load.

    Attributes:
        prompts_between: a load's time per output token includes the prompts of others that it waits for.
    """

    constants: Constants = CONSTANTS
    model: type[WorkerModel] = WorkerModel
    prompts_between: bool = True


def soft_maximum(exponent: float) -> type[WorkerModel]:
    """Decode steps without a graph take (host^p + GPU^p)^(1/p): the sum for p = 1, the longer for p = inf."""

    class SoftMaximum(WorkerModel):
        def _eager_step_ms(self, gpu: Floats) -> Floats:
            if np.isinf(exponent):
                return np.maximum(gpu, self._host_ms)
            longer, shorter = np.maximum(gpu, self._host_ms), np.minimum(gpu, self._host_ms)
            result: Floats = longer * (1 + (shorter / longer) ** exponent) ** (1 / exponent)
            return result

    return SoftMaximum


class AllEagerSum(WorkerModel):
    """Prefill chunks, too, take host and GPU time one after the other."""

    def _eager_chunk_ms(self, gpu: Floats) -> Floats:
        return self._eager_step_ms(gpu)


SHIPPED = Variant()
#: The model that shipped before servers were measured with this product's own driver, fitted to earlier servers.
BEFORE = Variant(
    replace(
        CONSTANTS,
        grouped_matmul=0.303,
        hbm=0.87,
        graph_layer_ms=0.09,
        eager_layer_ms=2.2,
        row_passes=0.0,
        sequence_ms=0.008,
    ),
    soft_maximum(np.inf),
    prompts_between=False,
)
#: Rules for steps without a graph, by their names on the page; 1.5 fits best of 1, 1.25, 1.5, 1.75, 2, 2.5 and 3.
RULES: dict[str, type[WorkerModel]] = {
    "**decode: host + GPU; chunk: the longer**": WorkerModel,
    "decode: soft maximum; chunk: the longer": soft_maximum(1.5),
    "both: the longer": soft_maximum(np.inf),
    "both: host + GPU": AllEagerSum,
}
