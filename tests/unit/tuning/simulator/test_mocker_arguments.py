"""The command line of Dynamo's mocker for each published layout."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from wideloop.operators.request import Request
from wideloop.tuning.simulator.plan import BLOCK, WorkerPlan
from wideloop.tuning.simulator.worker import mocker_arguments


@pytest.mark.parametrize(
    ("hardware", "redundant", "role", "chunk"),
    [
        ("h200-16", 0, "prefill", 8192),
        ("h200-32", 0, "prefill", 512),
        # 8192 / 32 = 256, at which the mocker with 32 ranks answers nothing; 8192 / 72 = 113 is no number of blocks.
        ("h100-104", 32, "prefill", 512),
        ("h100-104", 32, "decode", 512),
    ],
)
def test_a_chunk_is_one_that_the_mocker_can_run(hardware: str, redundant: int, role: str, chunk: int) -> None:
    params = {"target": "dynamo", "engine": "dynamo-sglang", "model": "DeepSeek-R1", "hardware": hardware}
    spec = Request.from_params(params | {"redundant_experts": redundant}).spec("one", "sha256:0", "/m")
    arguments = mocker_arguments(WorkerPlan.of(spec, role), "/m", Path("table"), None)
    options = dict(itertools.pairwise(arguments))
    assert int(options["--sglang-chunked-prefill-size"]) == int(options["--max-num-batched-tokens"]) == chunk
    assert chunk % BLOCK == 0
