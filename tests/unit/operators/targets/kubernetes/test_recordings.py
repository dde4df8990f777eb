from __future__ import annotations

from pathlib import Path

import pytest
from wideloop.operators.request import Request
from wideloop.operators.settings import settings
from wideloop.operators.targets.dynamo import DynamoTarget

from tests.unit.operators.targets.kubernetes.cluster_objects import NAME, graph, running_pod
from tests.unit.operators.targets.kubernetes.scripted_api import Script, answer, serve, write_kubeconfig

API = "/api/v1/namespaces/ns/pods"
PROXY = f"{API}/{NAME}-files:8080/proxy"


def member(group: int, node: int) -> dict[str, object]:
    marks = {
        "leaderworkerset.sigs.k8s.io/group-index": str(group),
        "leaderworkerset.sigs.k8s.io/worker-index": str(node),
    }
    return running_pod(name=f"{NAME}-decode-{group}-{node}", marks=marks)


def test_recordings_come_from_every_node_of_a_worker_and_of_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Script()
    pods = [member(group, node) for group in range(2) for node in range(2)]
    script.on("GET", f"/apis/nvidia.com/v1beta1/namespaces/ns/dynamographdeployments/{NAME}", answer(200, graph()))
    spec = Request.from_params({"engine": "dynamo-sglang", "target": "dynamo", "hardware": "h200-16"}).spec(NAME)
    config_map = {"data": {"spec.json": spec.model_dump_json()}}
    script.on("GET", f"/api/v1/namespaces/ns/configmaps/{NAME}-config", answer(200, config_map))
    script.on("GET", API, answer(200, {"items": pods, "metadata": {"resourceVersion": "1"}}))
    for node, written in ((0, 7.0), (1, 5.0)):
        folder, file = f"decode/{NAME}-decode-1-{node}", f"rank-{node}.pt"
        listed = {"files": [{"path": file, "bytes": 1, "modified": written}]}
        script.on("GET", f"{PROXY}/list/{folder}", answer(200, listed))
        script.on("GET", f"{PROXY}/file/{folder}/{file}", answer(200, b"x"))
    with serve(script) as port:
        monkeypatch.setenv("WIDELOOP_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("WIDELOOP_KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", port)))
        monkeypatch.setenv("WIDELOOP_CLUSTER__NAMESPACE", "ns")
        settings.cache_clear()
        found = DynamoTarget(settings()).recordings(NAME, "decode-1")
    settings.cache_clear()
    assert [f.name for f in found] == ["rank-1.pt", "rank-0.pt"]
