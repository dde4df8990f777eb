"""The cause that the preflight names when GPUs are short, on node lists as clusters have them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.diagnosis import Diagnosis
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.operators.request import Request
from wideloop.operators.targets.dynamo.platform import DynamoPlatform
from wideloop.operators.targets.kubernetes.api import Api
from wideloop.operators.targets.kubernetes.preflight.accelerators import check_accelerators
from wideloop.operators.targets.kubernetes.preflight.check_result import CheckResult
from wideloop.operators.targets.kubernetes.preflight.node_capacity import survey
from wideloop.operators.targets.kubernetes.shortage import with_nodes_named

from tests.unit.operators.targets.kubernetes.scripted_api import Script, answer, serve, write_kubeconfig

GPU = "nvidia.com/gpu"
H200 = {f"{GPU}.product": "NVIDIA-H200", f"{GPU}.memory": "143771"}


def taint(key: str, effect: str = "NoSchedule") -> dict[str, str]:
    return {"key": key, "effect": effect}


def node(name: str, gpus: int = 8, **more: Any) -> dict[str, Any]:
    """A node as the API server shows it; ``more``: labels, taints, ready, cordoned, rdma."""
    devices = {GPU: str(gpus), "rdma/ib": str(more.get("rdma", 8))}
    cordoned = {"unschedulable": True} if more.get("cordoned") else {}
    return {
        "metadata": {"name": name, "labels": H200 | more.get("labels", {})},
        "spec": {"taints": more.get("taints", []), **cordoned},
        "status": {
            "allocatable": devices,
            "capacity": devices | {GPU: str(more.get("capacity", 8))},
            "conditions": [{"type": "Ready", "status": more.get("ready", "True")}],
        },
    }


CORDON: dict[str, Any] = {"cordoned": True, "taints": [taint("node.kubernetes.io/unschedulable")]}
SILENT: dict[str, Any] = {"ready": "Unknown", "taints": [taint("node.kubernetes.io/unreachable", "NoExecute")]}
PRESSED: dict[str, Any] = {"taints": [taint("node.kubernetes.io/disk-pressure")]}


def deployment(hardware: str = "h200-16") -> DeploymentSpec:
    params = {"target": "dynamo", "engine": "dynamo-sglang", "model": "DeepSeek-R1", "hardware": hardware}
    return Request.from_params(params).spec("d", "sha256:" + "a" * 64, "/model-cache/x")


@contextmanager
def api_of(tmp_path: Path, nodes: list[dict[str, Any]]) -> Iterator[Api]:
    script = Script()
    for path, items in (("/api/v1/nodes", nodes), ("/api/v1/pods", [])):
        script.on("GET", path, answer(200, {"items": items, "metadata": {"resourceVersion": "1"}}))
    with serve(script) as port:
        yield Api(write_kubeconfig(tmp_path / "kubeconfig", port), outage_s=1)


def checks(tmp_path: Path, nodes: list[dict[str, Any]], hardware: str = "h200-16") -> dict[str, CheckResult]:
    options, spec = ClusterOptions(namespace="ns"), deployment(hardware)
    with api_of(tmp_path, nodes) as api:
        capacity = survey(api, "ns", "d", GPU)
    demands = DynamoPlatform().demands(spec, options)
    return {check.name: check for check in check_accelerators(spec, options, demands, capacity)}


@pytest.mark.parametrize(
    ("nodes", "rule", "action"),
    [
        ([node("a", **CORDON), node("b")], "cordoned: a", "Uncordon"),
        ([node("a", **CORDON), node("b", **CORDON)], "cordoned: a, b", "Uncordon"),
        ([node("a", **SILENT), node("b")], "not ready: a", "Repair"),
        ([node("a", **PRESSED), node("b")], "a (disk-pressure)", "Repair"),
        ([node("a", **CORDON), node("b", **SILENT)], "cordoned: a; nodes are not ready: b", "Uncordon"),
        ([node("a", gpus=7), node("b")], "a offers 7 of its 8", "nvidia-smi"),
        ([node("a", taints=[taint("team")]), node("b")], "tainted: team", "tolerations"),
        ([node("a", taints=[taint("team")]), node("b", **CORDON)], "team=:NoSchedule; nodes are cordoned", "Uncordon"),
        ([node("a")], "there are too few", "Add nodes"),
        ([node("a", gpus=4, capacity=4), node("b")], "there are too few", "Add nodes"),
        ([node("a", gpus=4, capacity=4)], "no node has 8", "4 GPUs per node"),
    ],
)  # fmt: skip
def test_what_keeps_gpus_from_a_deployment_is_named_with_its_nodes(
    tmp_path: Path, nodes: list[dict[str, Any]], rule: str, action: str
) -> None:
    result = checks(tmp_path, nodes)
    (finding,) = result["GPUs"].findings
    assert rule in finding.rule and action in finding.suggestion, finding
    assert result["RDMA"].findings == ()


def test_nodes_that_lack_rdma_devices_are_counted(tmp_path: Path) -> None:
    (finding,) = checks(tmp_path, [node("a", rdma=0), node("b")])["RDMA"].findings
    assert "1 of 2 GPU nodes offer 8 of it" in finding.rule


@pytest.mark.parametrize(
    "labels",
    [
        {f"{GPU}.product": "NVIDIA-H200-SHARED", f"{GPU}.replicas": "4"},
        {f"{GPU}.sharing-strategy": "mps", f"{GPU}.replicas": "4"},
    ],
)
def test_shares_of_a_gpu_do_not_count_as_gpus(tmp_path: Path, labels: dict[str, str]) -> None:
    result = checks(tmp_path, [node("a", gpus=32, labels=labels)])
    assert result["GPUs"].state == "error" and "shared by several pods" in result["GPUs"].findings[0].rule
    assert result["kind of GPU"].state == "warning"


def test_workers_of_several_nodes_without_rdma_are_not_said_to_stay_on_one(tmp_path: Path) -> None:
    nodes = [node(f"g{i}", gpus=4, capacity=4) for i in range(8)]
    assert "workers of 4 nodes" in checks(tmp_path, nodes, "dgx-cloud-gb200")["RDMA"].found


def test_pods_that_find_no_node_are_told_with_the_gpu_nodes_own_state(tmp_path: Path) -> None:
    counts = (
        "cannot be scheduled: 0/40 nodes are available: 32 Insufficient nvidia.com/gpu, 8 node(s) were unschedulable."
    )
    diagnosis = Diagnosis(kind="unschedulable", component="decode", message=counts, action="Free GPUs")
    options, platform = ClusterOptions(namespace="ns"), DynamoPlatform()
    with api_of(tmp_path, [node("a", **CORDON), node("b")]) as api:
        named = with_nodes_named(diagnosis, api, options, platform, deployment())
    assert "nodes are cordoned: a" in named.message and "Uncordon" in named.action
    rdma = diagnosis.changed(action="set WIDELOOP_CLUSTER__RDMA_RESOURCE")
    with api_of(tmp_path, [node("a", rdma=0)]) as api:
        named = with_nodes_named(rdma, api, options, platform, deployment())
    assert "0 of 1 GPU nodes offer" in named.message and named.action == rdma.action
    with api_of(tmp_path, [node("a"), node("b")]) as api:
        assert with_nodes_named(diagnosis, api, options, platform, deployment()) == diagnosis
