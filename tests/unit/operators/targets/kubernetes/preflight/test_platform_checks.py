"""Queues, networks, rights of pods and API groups, as a cluster shows them before anything is made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.operators.targets.kubernetes.api import Api
from wideloop.operators.targets.kubernetes.preflight.api_groups import api_groups
from wideloop.operators.targets.kubernetes.preflight.interconnect import check_network
from wideloop.operators.targets.kubernetes.preflight.pod_security import check_pod_security
from wideloop.operators.targets.kubernetes.preflight.queues import check_queues
from wideloop.operators.targets.kubernetes.preflight.storage import check_classes

from tests.unit.manifests.kubernetes.golden_cases import CASES
from tests.unit.operators.targets.kubernetes.scripted_api import Script, answer, refusal, serve, write_kubeconfig

SPECS = {case.name: case.spec() for case in CASES}
KUEUE = {"kueue.x-k8s.io": ("v1beta2", "v1beta1")}
DRA = {"resource.k8s.io": ("v1",), "resource.nvidia.com": ("v1beta1",)}
_QUEUES = "/apis/kueue.x-k8s.io/v1beta2/namespaces/ns/localqueues"
_TOPOLOGIES = "/apis/kueue.x-k8s.io/v1beta2/topologies"


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def api(script: Script, tmp_path: Path) -> Iterator[Api]:
    with serve(script) as port:
        yield Api(write_kubeconfig(tmp_path / "kubeconfig", port))


def listed(*names: str) -> Any:
    items = [{"metadata": {"name": name, "namespace": "ns", "uid": name}} for name in names]
    return answer(200, {"items": items, "metadata": {"resourceVersion": "1"}})


def test_groups_are_told_with_their_versions_and_the_preferred_one_first(script: Script, api: Api) -> None:
    group = {
        "name": "kueue.x-k8s.io",
        "versions": [{"version": "v1beta1"}, {"version": "v1beta2"}],
        "preferredVersion": {"version": "v1beta2"},
    }
    script.on("GET", "/apis", answer(200, {"groups": [group, {"name": "x"}]}))
    assert api_groups(api) == {"kueue.x-k8s.io": ("v1beta2", "v1beta1"), "x": ()}


def test_groups_that_may_not_be_listed_are_unknown(script: Script, api: Api) -> None:
    script.on("GET", "/apis", refusal(403, "Forbidden"))
    assert api_groups(api) is None


@pytest.mark.parametrize(
    ("queue", "groups", "queues", "state", "text"),
    [
        (None, {}, None, "ok", "not installed"),
        ("gpus", {}, None, "error", "missing"),
        (None, KUEUE, listed("gpus"), "ok", "topologies: rack; no queue is named"),
        ("gpus", KUEUE, listed("gpus"), "ok", "queue gpus"),
        ("gpu", KUEUE, listed("gpus"), "error", "topologies: rack"),
        ("gpus", KUEUE, refusal(403, "Forbidden"), "not checked", "may not be listed"),
    ],
)
def test_kueue_and_its_queue(
    script: Script, api: Api, queue: str | None, groups: dict[str, Any], queues: Any, state: str, text: str
) -> None:
    script.on("GET", _TOPOLOGIES, listed("rack"))
    if queues is not None:
        script.on("GET", _QUEUES, queues)
    (result,) = check_queues(api, ClusterOptions(namespace="ns", kueue_queue=queue), groups)
    assert result.state == state
    assert text in result.found


def test_a_queue_of_kai_wants_kai(api: Api) -> None:
    options = ClusterOptions(kai_queue="serving")
    assert [c.state for c in check_queues(api, options, {})] == ["ok", "error"]
    assert [c.state for c in check_queues(api, options, {"scheduling.run.ai": ("v2",)})] == ["ok"]


@pytest.mark.parametrize(
    ("case", "options", "groups", "states"),
    [
        ("r1-32", {}, {}, ["ok"]),
        ("r1-gke-b200", {}, {}, ["warning"]),
        ("r1-gke-b200", {}, {"networking.gke.io": ("v1",)}, ["ok"]),
        ("r1-gke-b200", {"provider": "none"}, {}, ["ok"]),
        ("r1-gb200", {}, DRA, ["ok", "ok"]),
        ("r1-gb200", {}, {}, ["ok", "error"]),
        ("r1-gb200", {}, {"resource.k8s.io": ("v1",)}, ["ok", "error"]),
        ("r1-gb200", {"compute_domain": False}, {}, ["ok", "ok"]),
        ("r1-gb200", {"compute_domain_claim": "shared"}, {}, ["ok", "ok"]),
    ],
)
def test_networks_and_nvlink_domains_want_what_serves_them(
    case: str, options: dict[str, Any], groups: dict[str, Any], states: list[str]
) -> None:
    assert [c.state for c in check_network(ClusterOptions(**options), SPECS[case], groups)] == states


@pytest.mark.parametrize(
    ("case", "options", "enforced", "state"),
    [
        ("r1-32", {}, None, "ok"),
        ("r1-32", {}, "privileged", "ok"),
        ("r1-32", {}, "baseline", "error"),
        ("r1-one-worker", {}, "baseline", "ok"),
        ("r1-one-worker", {}, "restricted", "error"),
        ("r1-one-worker", {"worker_user": 1000}, "restricted", "ok"),
        ("r1-one-worker", {"host_network": True}, "baseline", "error"),
        ("simulated-8", {}, "restricted", "ok"),
        ("r1-32", {}, "typo", "ok"),
    ],
)
def test_the_namespace_admits_the_rights_that_workers_need(
    script: Script, api: Api, case: str, options: dict[str, Any], enforced: str | None, state: str
) -> None:
    labels = {} if enforced is None else {"pod-security.kubernetes.io/enforce": enforced}
    script.on("GET", "/api/v1/namespaces/ns", answer(200, {"metadata": {"name": "ns", "labels": labels}}))
    (result,) = check_pod_security(api, ClusterOptions(namespace="ns", **options), SPECS[case])
    assert result.state == state


def test_a_model_in_a_folder_of_the_hosts_needs_the_level_that_admits_it(script: Script, api: Api) -> None:
    labels = {"pod-security.kubernetes.io/enforce": "baseline"}
    script.on("GET", "/api/v1/namespaces/ns", answer(200, {"metadata": {"name": "ns", "labels": labels}}))
    spec = SPECS["r1-one-worker"].changed(model_path="/mnt/models/r1")
    (result,) = check_pod_security(api, ClusterOptions(namespace="ns"), spec)
    assert "hosts' own" in result.findings[0].rule


def test_storage_classes_are_named_by_what_they_can_do(script: Script, api: Api) -> None:
    classes = {"fast": "pd.csi.storage.gke.io", "shared": "filestore.csi.storage.gke.io", "own": "example.com/x"}
    items = [{"metadata": {"name": n, "uid": n}, "provisioner": p} for n, p in classes.items()]
    script.on(
        "GET",
        "/apis/storage.k8s.io/v1/storageclasses",
        answer(200, {"items": items, "metadata": {"resourceVersion": "1"}}),
    )
    assert check_classes(api).found == "ReadWriteMany: shared; one node only: fast; not known: own"
