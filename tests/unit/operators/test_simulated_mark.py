"""Results from nodes that are stand-ins are marked as simulated, whatever the engine, and pods are told so."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from wideloop.manifests.kubernetes.dynamo import render
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.operators.request import Request, is_simulated
from wideloop.operators.settings import settings

PARAMS = {"target": "dynamo", "engine": "dynamo-sglang", "model": "DeepSeek-R1", "hardware": "h200-16"}


@pytest.fixture(autouse=True)
def fresh_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("WIDELOOP_CLUSTER__SIMULATED", raising=False)
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.mark.parametrize(
    ("engine", "nodes", "marked"),
    [
        ("dynamo-sglang", None, False),
        ("dynamo-sglang", "false", False),
        ("dynamo-sglang", "true", True),
        ("sglang", "true", True),
        ("simulated", None, True),
    ],
)
def test_a_result_is_marked_by_its_engine_or_by_its_nodes(
    monkeypatch: pytest.MonkeyPatch, engine: str, nodes: str | None, marked: bool
) -> None:
    if nodes is not None:
        monkeypatch.setenv("WIDELOOP_CLUSTER__SIMULATED", nodes)
    assert is_simulated(engine) is marked
    assert Request.from_params(PARAMS | {"engine": engine}).simulated is marked


@pytest.mark.parametrize("simulated", [False, True])
def test_pods_are_told_that_their_results_will_be_marked(simulated: bool) -> None:
    spec = Request.from_params(PARAMS).spec("one", f"sha256:{'0' * 64}", "/model-cache/model")
    graph, *_ = render(spec, ClusterOptions(simulated=simulated))
    for component in graph["spec"]["components"]:
        (main,) = component["podTemplate"]["spec"]["containers"]
        variables = {one["name"]: one.get("value") for one in main["env"]}
        assert variables.get("WIDELOOP_SIMULATED") == ("true" if simulated else None)
