"""The bound lies below every measured time per token, and above that of a stream that was held back."""

from __future__ import annotations

import numpy as np
import pytest
from wideloop.manifests.engines import get_engine
from wideloop.operators.request import DEFAULTS, Request
from wideloop.tuning.least_tpot import least_tpot_ms
from wideloop.tuning.performance import WorkerModel
from wideloop.tuning.placement import trivial
from wideloop.tuning.space import decoder


@pytest.mark.parametrize(("model", "hardware"), [("Qwen3-30B-A3B", "h200-8"), ("DeepSeek-R1", "h200-16")])
def test_the_bound_is_between_a_stream_that_was_held_back_and_a_decode_pass(model: str, hardware: str) -> None:
    spec = Request.from_params({**DEFAULTS, "model": model, "hardware": hardware, "engine": "sglang"}).spec("x")
    worker = decoder(spec)
    even = np.full((spec.model.num_moe_layers, spec.model.num_experts), 1 / spec.model.num_experts)
    placement = trivial(*even.shape, 0, worker.layout.ep)
    timing = WorkerModel(spec.model, spec.hardware, worker, even, placement, engine=get_engine("sglang"))
    assert 0.03 < least_tpot_ms(spec) < float(timing.decode_ms(1, 1)) / 2
