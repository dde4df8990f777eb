"""Models on a claim of a real cluster: downloaded by a Job from a small hub, or made by the engine."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from wideloop.manifests import hub as known_models
from wideloop.manifests import profiles
from wideloop.manifests.engines import get_engine
from wideloop.manifests.errors import Refused, TargetError
from wideloop.manifests.hub import HubModel
from wideloop.manifests.kubernetes.labels import selector
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.operators.targets.kubernetes.api import Api
from wideloop.operators.targets.kubernetes.weights import prepare_weights
from wideloop.tuning.simulator.engine import SimulatedEngine

from tests.cluster.agent import NodeAgent
from tests.cluster.cluster import Cluster
from tests.cluster.tasks import wait_for_no_tasks
from tests.tiny_hub import Hub, serving, tiny_model

pytestmark = pytest.mark.cluster

MODEL = "Qwen3-30B-A3B"
SHARD = "model-00002-of-00002.safetensors"


class Real(SimulatedEngine):
    """An engine that needs weights: the simulated one says that it makes them itself."""

    needs_weights = True

    def make_model(self, python: str, config_file: str, out_dir: str) -> None:
        return None


@pytest.fixture
def hub(agent: NodeAgent, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that pods reach, with a model in place of the one that weighs 61 GB."""
    config = profiles.model_config_path(MODEL).read_bytes()
    with serving(Hub("Qwen/Qwen3-30B-A3B", tiny_model(config)), agent.network.gateway) as one:
        monkeypatch.setitem(known_models._PROFILES, MODEL, HubModel(one.repository, one.commit))
        yield one


@pytest.fixture
def options(namespace: str, add_nodes: Callable[[str], list[str]], hub: Hub) -> ClusterOptions:
    add_nodes("h200-8")
    return ClusterOptions(
        namespace=namespace,
        client_image="example.com/benchmark:1",
        engine_image="example.com/simulated:1.6.1",
        hub_endpoint=hub.url,
        model_claim_size="70Gi",
    )


@pytest.fixture
def api(cluster: Cluster) -> Api:
    return Api(cluster.kubeconfig)


def left(cluster: Cluster, namespace: str) -> list[str]:
    """Objects of ours but claims."""
    wait_for_no_tasks(cluster, namespace)
    kinds = "jobs,pods,configmaps,secrets,services"
    found = cluster.kubectl("get", kinds, "-n", namespace, "-l", selector(), "-o", "name")
    return found.split()


def test_a_model_is_downloaded_once_and_found_afterwards(
    api: Api, options: ClusterOptions, hub: Hub, cluster: Cluster
) -> None:
    said: list[str] = []
    first = prepare_weights(api, options, Real(), MODEL, say=said.append)
    assert (first.reused, first.has_weights, first.files) == (False, True, 6)
    assert first.path == f"/model-cache/Qwen--Qwen3-30B-A3B-{hub.commit[:12]}"
    assert any("6 files" in line and "is complete" in line for line in said), said
    hub.requests.clear()
    again = prepare_weights(api, options, Real(), MODEL, say=said.append)
    assert again == first.model_copy(update={"reused": True})
    assert hub.requests == []
    assert left(cluster, options.namespace) == []
    (models, files) = json.loads(cluster.kubectl("get", "pvc", "-n", options.namespace, "-o", "json"))["items"]
    assert {c["metadata"]["name"] for c in (models, files)} == {options.model_claim, options.files_claim}
    assert models["spec"]["accessModes"] == ["ReadWriteMany"]


def test_a_download_that_breaks_off_goes_on_in_the_next_pod(
    api: Api, options: ClusterOptions, hub: Hub, cluster: Cluster
) -> None:
    hub.cut |= {SHARD: 100_000}
    said: list[str] = []
    assert prepare_weights(api, options, Real(), MODEL, say=said.append).has_weights
    assert left(cluster, options.namespace) == []


def test_a_shard_that_stays_damaged_is_named_and_nothing_of_ours_is_left(
    api: Api, options: ClusterOptions, hub: Hub, cluster: Cluster
) -> None:
    hub.files[SHARD] = hub.files[SHARD][:-9]
    with pytest.raises(TargetError, match=rf"{SHARD} has [0-9]+ bytes where its header says"):
        prepare_weights(api, options, Real(), MODEL, say=lambda _: None)
    assert left(cluster, options.namespace) == []


def test_the_engine_makes_its_model_in_a_pod(api: Api, options: ClusterOptions, cluster: Cluster) -> None:
    said: list[str] = []
    made = prepare_weights(api, options, get_engine("simulated"), MODEL, say=said.append)
    assert (made.path, made.has_weights, made.reused) == (f"/model-cache/simulated/{MODEL}", False, False)
    assert prepare_weights(api, options, get_engine("simulated"), MODEL, say=said.append).reused
    assert left(cluster, options.namespace) == []


def test_a_claim_that_is_too_small_or_one_node_only_is_refused_before_anything_runs(
    api: Api, options: ClusterOptions, hub: Hub, cluster: Cluster
) -> None:
    claim: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": options.model_claim},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "5Gi"}}},
    }
    cluster.apply([claim], options.namespace)
    with pytest.raises(Refused) as refused:
        prepare_weights(api, options, Real(), MODEL, say=lambda _: None)
    rules = [f.rule for f in refused.value.findings]
    assert rules[0] == "is ReadWriteOnce: it cannot be written from several nodes"
    assert rules[1].startswith("has 5 GB where the model takes 61 GB")
    assert hub.requests == []
    assert left(cluster, options.namespace) == []


def test_an_image_that_cannot_be_pulled_is_said_at_once(api: Api, options: ClusterOptions, cluster: Cluster) -> None:
    wrong = options.model_copy(update={"client_image": "example.com/nothing:1"})
    with pytest.raises(TargetError, match=r"image_unavailable.*not found"):
        prepare_weights(api, wrong, Real(), MODEL, say=lambda _: None)
    assert left(cluster, options.namespace) == []
