"""What the preflight makes of the hub's answers."""

from __future__ import annotations

from pathlib import Path

import pytest
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.operators.request import Request
from wideloop.operators.targets.kubernetes.api import Api
from wideloop.operators.targets.kubernetes.preflight.sources import check_hub

from tests.unit.operators.targets.kubernetes.scripted_api import Script, answer, serve


@pytest.mark.parametrize(
    ("status", "state"),
    [(200, "ok"), (401, "warning"), (403, "warning"), (429, "not checked"), (500, "not checked"), (503, "not checked")],
)
def test_a_hub_that_has_no_time_says_nothing_about_the_token(tmp_path: Path, status: int, state: str) -> None:
    params = {"target": "dynamo", "engine": "dynamo-sglang", "model": "DeepSeek-R1", "hardware": "h200-16"}
    spec = Request.from_params(params).spec("d")
    with serve(Script(otherwise=answer(status, {"error": "no"}))) as port:
        options = ClusterOptions(hub_endpoint=f"http://127.0.0.1:{port}")
        assert check_hub(Api(tmp_path / "none"), options, spec).state == state
