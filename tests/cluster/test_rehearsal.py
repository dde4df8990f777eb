"""DeepSeek-R1 with the real engine's manifests: what comes up, and what the engine's own parsers refuse."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.engines import get_engine
from wideloop.operators.request import Request
from wideloop.operators.settings import settings
from wideloop.operators.targets import open_target

from tests.cluster.agent import NodeAgent
from tests.cluster.airflow_place import PROFILES as AIRFLOW_PROFILES
from tests.cluster.cluster import Cluster, wait_for
from tests.cluster.place import DIGEST, OWNER, Place
from tests.cluster.rehearsal.hub import MODEL
from tests.cluster.rehearsal.place import PROFILES, params, rehearsal_environment
from tests.tiny_hub import Hub

pytestmark = pytest.mark.cluster
START_S = 120


@pytest.fixture
def stage(
    cluster: Cluster,
    agent: NodeAgent,
    operator: object,
    namespace: str,
    hub: Hub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Place]:
    """A namespace with a model in its cache, that this process points at; no nodes."""
    for name, value in rehearsal_environment(cluster.kubeconfig, namespace, hub.url).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WIDELOOP_HOME", str(tmp_path / "home"))
    settings.cache_clear()
    yield Place(cluster, agent, namespace)
    settings.cache_clear()


def spec(stage: Place, hardware: str, **more: object) -> DeploymentSpec:
    request = Request.from_params(params(hardware, **more))
    weights = open_target("dynamo").prepare_weights(get_engine(request.engine), MODEL)
    return request.spec("one", DIGEST, weights.path)


#: Those of which no run of Airflow's is in these tests (:mod:`tests.cluster.airflow_place`).
@pytest.mark.parametrize("hardware", sorted(set(PROFILES) - set(AIRFLOW_PROFILES)))
def test_a_deployment_of_the_real_engine_comes_up_answers_and_goes(
    stage: Place, add_nodes: Callable[[str], list[str]], hardware: str
) -> None:
    add_nodes(hardware)
    stage.target.apply(spec(stage, hardware), OWNER)
    stage.wait_ready("one", START_S)
    for worker in ("prefill-0", "decode-0"):
        assert any("understand all" in line for line in stage.target.logs("one", worker))
    stage.target.delete("one")
    assert stage.left() == []


def test_a_flag_that_the_images_sglang_does_not_know_is_told_in_its_parsers_words(
    stage: Place, add_nodes: Callable[[str], list[str]]
) -> None:
    add_nodes("h200-16")
    stage.target.apply(spec(stage, "h200-16", engine_version="0.5.23"), OWNER)
    wait_for(lambda: stage.target.status("one").state == "failed", START_S, "it fails")
    found = stage.target.status("one").diagnosis
    assert found is not None
    assert "unrecognized arguments: --attn-dp-size 8" in "\n".join(found.log_tail)
    stage.target.delete("one")
    assert stage.left() == []


def test_a_stand_in_starts_only_where_its_results_will_be_marked(
    stage: Place, add_nodes: Callable[[str], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    add_nodes("h200-16")
    monkeypatch.setenv("WIDELOOP_CLUSTER__SIMULATED", "false")
    settings.cache_clear()
    stage.target.apply(spec(stage, "h200-16"), OWNER)
    wait_for(lambda: stage.target.status("one").state == "failed", START_S, "it fails")
    found = stage.target.status("one").diagnosis
    assert found is not None
    assert "Set WIDELOOP_CLUSTER__SIMULATED=true" in "\n".join(found.log_tail)
    stage.target.delete("one")
