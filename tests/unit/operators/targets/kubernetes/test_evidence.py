"""What is kept of a deployment on a cluster: pods, logs and objects, from an API server that is scripted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from wideloop.operators.settings import settings
from wideloop.operators.targets.dynamo import DynamoTarget
from wideloop.operators.targets.kubernetes import evidence

from tests.unit.operators.targets.kubernetes.cluster_objects import NAME, graph, running_pod, waiting_pod
from tests.unit.operators.targets.kubernetes.scripted_api import Script, answer, serve, write_kubeconfig


def started_again(name: str) -> dict[str, Any]:
    pod = running_pod("decode", name=name)
    pod["status"]["containerStatuses"][0] |= {"restartCount": 2, "imageID": "nvcr.io/x/y@sha256:12"}
    return pod


def test_every_pod_has_its_node_and_digest_and_a_restarted_one_its_earlier_run() -> None:
    waiting = waiting_pod("ContainerCreating", name="one-prefill")
    del waiting["spec"]["nodeName"]
    first, again, last = evidence.ranks([waiting, started_again("one-decode")])
    assert (first.name, first.component, first.node, first.image) == (
        "one-decode", "decode", "node-1", "nvcr.io/x/y@sha256:12"
    )  # fmt: skip
    assert again == first.changed(previous=True)
    assert (last.name, last.node, last.image) == ("one-prefill", "", "")


class Logs:
    """An API whose nodes have one log, and give of it what is asked for."""

    def __init__(self, lines: int) -> None:
        self.text = "\n".join(f"line {i}" for i in range(lines))
        self.queries: list[dict[str, Any]] = []

    def stream(self, method: str, path: str, query: dict[str, Any], **_: Any) -> Any:
        self.queries.append(query)
        text = "\n".join(self.text.splitlines()[-query["tailLines"] :]) if "tailLines" in query else self.text
        return Answer(text[: query.get("limitBytes")].encode())


class Answer:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *_: object) -> None: ...

    def read(self) -> bytes:
        return self.content


@pytest.mark.parametrize("previous", [False, True])
def test_a_short_log_is_kept_whole(previous: bool) -> None:
    api = Logs(100)
    rank = evidence.ranks([started_again("p")])[int(previous)]
    assert evidence.whole_log(api, "n", rank, 1000).decode() == api.text  # type: ignore[arg-type]
    assert ("previous" in api.queries[0]) is previous and len(api.queries) == 1


def test_a_long_log_keeps_its_beginning_and_its_end() -> None:
    api = Logs(50_000)
    text = evidence.whole_log(api, "n", evidence.ranks([running_pod(name="p")])[0], 1000).decode()  # type: ignore[arg-type]
    assert text.startswith("line 0\nline 1\n") and text.endswith("line 49998\nline 49999")
    assert "[... more left out ...]" in text and len(text) < 2100


class Objects:
    """An API with a root object and a ConfigMap, as an API server returns them."""

    source = "test"

    def get(self, path: str) -> dict[str, Any]:
        metadata = {
            "name": "one",
            "namespace": "n",
            "uid": "u",
            "resourceVersion": "7",
            "managedFields": [{"manager": "x"}],
        }
        return {"kind": "Graph", "apiVersion": "v1", "metadata": metadata, "spec": {"a": 1}, "status": {"b": 2}}

    def list(self, path: str, query: dict[str, str]) -> tuple[list[dict[str, Any]], str]:
        return [{"metadata": {"name": "one-config", "labels": {"l": "m"}}, "data": {"k": "v"}}], "1"


def test_objects_are_kept_as_they_could_be_applied() -> None:
    class Platform:
        def roots(self, options: Any) -> str:
            return "/roots"

    class Options:
        namespace = "n"

    text = evidence.manifest(Objects(), Options(), Platform(), "one")  # type: ignore[arg-type]
    root, config = yaml.safe_load_all(text)
    assert root == {
        "apiVersion": "v1", "kind": "Graph", "metadata": {"name": "one", "namespace": "n"}, "spec": {"a": 1}
    }  # fmt: skip
    assert config == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "one-config", "labels": {"l": "m"}},
        "data": {"k": "v"},
    }  # fmt: skip


def test_exporters_are_those_of_the_nodes_that_workers_run_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script()
    pods = [running_pod("decode", name="d-0"), running_pod("prefill", name="p-0"), running_pod("frontend", name="f-0")]
    for pod, ip in zip(pods, ("10.0.0.2", "10.0.0.1", "10.0.0.9"), strict=True):
        pod["status"]["hostIP"] = ip
    script.on("GET", f"/apis/nvidia.com/v1beta1/namespaces/ns/dynamographdeployments/{NAME}", answer(200, graph()))
    script.on("GET", "/api/v1/namespaces/ns/pods", answer(200, {"items": pods, "metadata": {"resourceVersion": "1"}}))
    with serve(script) as port:
        monkeypatch.setenv("WIDELOOP_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("WIDELOOP_KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", port)))
        monkeypatch.setenv("WIDELOOP_CLUSTER__NAMESPACE", "ns")
        monkeypatch.setenv("WIDELOOP_TELEMETRY__DCGM", '["http://{host}:9400/metrics"]')
        settings.cache_clear()
        sources = DynamoTarget(settings()).telemetry(NAME)
    settings.cache_clear()
    assert sources.dcgm == ("http://10.0.0.1:9400/metrics", "http://10.0.0.2:9400/metrics")
    assert set(sources.pods) == {"d-0", "p-0"}
    assert not sources.nvml
