"""What the preflight says of the parts of a Dynamo platform: operator, etcd and NATS, what makes groups of pods."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.operators.targets.dynamo import installation
from wideloop.operators.targets.kubernetes.api import Api

from tests.unit.manifests.kubernetes.golden_cases import CASES
from tests.unit.operators.targets.kubernetes.scripted_api import Script, answer, refusal, serve, write_kubeconfig

SPECS = {case.name: case.spec() for case in CASES}
LWS = {"leaderworkerset.x-k8s.io": ("v1",), "scheduling.volcano.sh": ("v1beta1",)}
GROVE = {"grove.io": ("v1alpha1",)}


def pod(image: str = "nvcr.io/nvidia/ai-dynamo/kubernetes-operator:1.6.1", *, ready: bool = True) -> dict[str, Any]:
    return {
        "metadata": {"name": "operator-1", "namespace": "dynamo-system"},
        "spec": {"containers": [{"name": "proxy", "image": "proxy:9.9.9"}, {"name": "manager", "image": image}]},
        "status": {"conditions": [{"type": "Ready", "status": str(ready)}]},
    }


@pytest.mark.parametrize(
    ("pods", "state", "text"),
    [
        ([pod()], "ok", "1 of 1 ready: dynamo-system/operator-1 1.6.1"),
        ([pod(ready=False), pod()], "ok", "1 of 2 ready"),
        ([pod("registry/operator:main")], "ok", "of an unknown version"),
        ([pod(ready=False)], "error", "operator-1"),
        ([], "warning", "not found"),
    ],
)
def test_the_operator_is_told_by_its_pods(pods: list[dict[str, Any]], state: str, text: str) -> None:
    result = installation.check_operator(pods)
    assert result.state == state
    assert text in result.found


@pytest.mark.parametrize(
    ("version", "etcd", "nats", "missing"),
    [
        ("1.6.1", [], [], []),
        ("1.0.0", [], [pod(ready=False)], []),
        ("0.6.0", [pod()], [pod()], []),
        ("0.6.0", [], [pod()], ["etcd"]),
        ("0.9.1-rc1", [pod(ready=False)], [], ["etcd", "nats"]),
    ],
)
def test_etcd_and_nats_are_wanted_by_old_releases_only(
    version: str, etcd: list[Any], nats: list[Any], missing: list[str]
) -> None:
    operator = [pod(f"nvcr.io/nvidia/ai-dynamo/kubernetes-operator:{version}")]
    result = installation.check_discovery(operator, {"etcd": etcd, "nats": nats})
    assert [f.field for f in result.findings] == missing


@pytest.mark.parametrize(
    ("case", "grove", "groups", "state", "text"),
    [
        ("r1-32", True, GROVE, "ok", "Grove is used"),
        ("r1-32", True, LWS, "ok", "LeaderWorkerSet is used"),
        ("r1-32", False, {**GROVE, **LWS}, "ok", "LeaderWorkerSet is used"),
        ("r1-32", True, {}, "error", "neither is installed"),
        ("r1-32", True, {"leaderworkerset.x-k8s.io": ("v1",)}, "error", "leaderworkerset.x-k8s.io: v1"),
        ("r1-32", False, GROVE, "error", "grove.io"),
        ("r1-16", True, {}, "ok", "not needed"),
    ],
)
def test_workers_over_several_nodes_want_grove_or_leader_worker_sets(
    case: str, grove: bool, groups: dict[str, tuple[str, ...]], state: str, text: str
) -> None:
    result = installation.check_orchestrator(ClusterOptions(grove=grove), SPECS[case], groups)
    assert result.state == state
    assert text in result.found


def test_the_advice_is_the_shortest_way_to_what_works() -> None:
    def advice(*, grove: bool, groups: dict[str, tuple[str, ...]]) -> str:
        (finding,) = installation.check_orchestrator(ClusterOptions(grove=grove), SPECS["r1-32"], groups).findings
        return finding.suggestion

    assert "Volcano" in advice(grove=True, groups={"leaderworkerset.x-k8s.io": ("v1",)})
    assert advice(grove=False, groups=GROVE).startswith("Set grove to true")
    assert "Install Grove" in advice(grove=True, groups={})


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def api(script: Script, tmp_path: Path) -> Iterator[Api]:
    with serve(script) as port:
        yield Api(write_kubeconfig(tmp_path / "kubeconfig", port))


def test_an_account_that_may_not_look_elsewhere_is_told_so(script: Script, api: Api) -> None:
    script.on("GET", "/api/v1/pods", refusal(403, "Forbidden"))
    operator, orchestrator = installation.check_installation(api, ClusterOptions(), SPECS["r1-32"], GROVE)
    assert (operator.state, orchestrator.state) == ("not checked", "ok")


def test_pods_are_looked_for_in_every_namespace(script: Script, api: Api) -> None:
    script.on("GET", "/api/v1/pods", answer(200, {"items": [pod()], "metadata": {"resourceVersion": "1"}}))
    states = [c.state for c in installation.check_installation(api, ClusterOptions(), SPECS["r1-32"], GROVE)]
    assert states == ["ok", "ok", "ok"]
