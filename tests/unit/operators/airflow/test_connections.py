"""Airflow's connections as the way to the cluster and to the hub, with the provider's own hook."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from wideloop.manifests.errors import Refused
from wideloop.operators.settings import settings
from wideloop.operators.targets import configured_targets
from wideloop.operators.targets.dynamo import DynamoTarget
from wideloop.operators.targets.kubernetes.api import Api
from wideloop.operators.targets.kubernetes.cluster import cluster
from wideloop.operators.targets.local import model_directory

from tests.unit.operators.targets.kubernetes.scripted_api import Script, answer, serve, write_kubeconfig

TOKEN = "secret-of-the-cluster"
VERSION = answer(200, {"gitVersion": "v1.36.0"})


@pytest.fixture(autouse=True)
def fresh_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("WIDELOOP_HOME", str(tmp_path / "home"))
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.fixture
def script() -> Iterator[tuple[Script, int]]:
    asked = Script()
    asked.on("GET", "/version", VERSION)
    with serve(asked) as port:
        yield asked, port


def connection(monkeypatch: pytest.MonkeyPatch, conn_id: str, **extra: object) -> None:
    described = {"conn_type": "kubernetes", "extra": extra}
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(described))


def test_a_kubeconfig_inside_a_connection_reaches_the_cluster_with_its_token_and_namespace(
    script: tuple[Script, int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked, port = script
    content = yaml.safe_load(write_kubeconfig(tmp_path / "kubeconfig", port, TOKEN).read_text())
    connection(monkeypatch, "team_cluster", kube_config=json.dumps(content), namespace="wide-ep")
    monkeypatch.setenv("WIDELOOP_KUBERNETES_CONN_ID", "team_cluster")
    monkeypatch.setenv("WIDELOOP_KUBECONFIG", "/nowhere")
    here = cluster(settings(), DynamoTarget.platform)
    assert here.api.request("GET", "/version")["gitVersion"] == "v1.36.0"
    assert asked.tokens == [f"Bearer {TOKEN}"]
    assert (here.options.namespace, here.api.source) == ("wide-ep", "Airflow connection team_cluster")
    assert "dynamo" in configured_targets()


def test_a_connection_names_a_kubeconfig_and_a_context_of_it(
    script: tuple[Script, int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked, port = script
    path = write_kubeconfig(tmp_path / "kubeconfig", port, TOKEN)
    content = yaml.safe_load(path.read_text())
    content["contexts"].append({"name": "other", "context": {"cluster": "c", "user": "other"}})
    content["users"].append({"name": "other", "user": {"token": "of-the-other"}})
    path.write_text(yaml.safe_dump(content))
    connection(monkeypatch, "by_path", kube_config_path=str(path), cluster_context="other")
    Api(conn_id="by_path").request("GET", "/version")
    Api(path).request("GET", "/version")
    assert asked.tokens == ["Bearer of-the-other", f"Bearer {TOKEN}"], "connections do not change each other"


def test_a_connection_that_cannot_be_used_is_refused_without_a_word_of_what_it_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connection(monkeypatch, "damaged", kube_config=f"{{token: {TOKEN}: [")
    with pytest.raises(Refused, match="WIDELOOP_KUBERNETES_CONN_ID = 'damaged': cannot be used") as refused:
        Api(conn_id="damaged").request("GET", "/version")
    chain = [refused.value.__context__, refused.value.__cause__]
    assert TOKEN not in str(refused.value) and chain == [None, None]


def test_a_connection_that_does_not_exist_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WIDELOOP_KUBERNETES_CONN_ID", "nowhere")
    with pytest.raises(Refused, match=r"'nowhere'.*AirflowNotFoundException"):
        cluster(settings(), DynamoTarget.platform).api.request("GET", "/version")


def test_the_hubs_token_is_the_password_of_its_connection(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert model_directory._hub_token(settings()) is None, "without a connection the hub's client finds its own"
    described = {"conn_type": "generic", "password": "hf_hidden"}
    monkeypatch.setenv("AIRFLOW_CONN_HUB", json.dumps(described))
    monkeypatch.setenv("WIDELOOP_HF_CONN_ID", "hub")
    settings.cache_clear()
    assert model_directory._hub_token(settings()) == "hf_hidden"
    assert "hf_hidden" not in repr(settings()) + "".join(capsys.readouterr())
