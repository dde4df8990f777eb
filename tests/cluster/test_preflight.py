"""What the preflight says about real clusters that lack something; nothing is made by looking."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from wideloop.manifests.clients.aiperf import Aiperf
from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.errors import ApiUnreachable, Refused
from wideloop.manifests.findings import Finding
from wideloop.manifests.kubernetes import dynamo, rbac
from wideloop.manifests.kubernetes.dynamo import render
from wideloop.manifests.kubernetes.labels import selector
from wideloop.manifests.kubernetes.model_cache import files_claim, model_claim
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.operators.request import UNKNOWN, Request
from wideloop.operators.targets.dynamo import DynamoTarget
from wideloop.operators.targets.kubernetes.api import Api
from wideloop.operators.targets.kubernetes.preflight import preflight, run_checks

from tests import registry
from tests.cluster.agent import NodeAgent
from tests.cluster.cluster import Cluster, wait_for
from tests.cluster.conftest import unavailable
from tests.tiny_hub import Hub, serving

pytestmark = pytest.mark.cluster

DIGEST = "sha256:" + "5" * 64
PLATFORM = DynamoTarget.platform
_GB = 10**9
AddNodes = Callable[..., list[str]]


def spec_of(hardware: str = "h200-16", model: str = "Qwen3-30B-A3B", engine: str = "simulated") -> DeploymentSpec:
    params = {"target": "dynamo", "engine": engine, "model": model, "hardware": hardware}
    return Request.from_params(params).spec("probe", DIGEST, "/model-cache/m")


@pytest.fixture
def api(cluster: Cluster) -> Api:
    return Api(cluster.kubeconfig, outage_s=5)


@pytest.fixture
def options(namespace: str, cluster: Cluster) -> ClusterOptions:
    """A namespace with its claims; registries and hub are where nothing listens."""
    found = ClusterOptions(
        namespace=namespace,
        engine_image="127.0.0.1:9/simulated:1.6.1",
        client_image="127.0.0.1:9/benchmark:1",
        hub_endpoint="http://127.0.0.1:9",
    )
    cluster.apply([model_claim(found, 80 * _GB), files_claim(found)])
    return found


def judged(api: Api, options: ClusterOptions, spec: DeploymentSpec | None = None) -> dict[str, tuple[Finding, ...]]:
    """Findings by check."""
    return {check.name: check.findings for check in run_checks(api, options, PLATFORM, spec or spec_of(), Aiperf())}


def run_operator(cluster: Cluster, namespace: str) -> None:
    """A pod as that of Dynamo's operator: the stand-in for it is a thread of the tests."""
    container = {"name": "manager", "image": "nvcr.io/nvidia/ai-dynamo/kubernetes-operator:1.6.1"}
    metadata = {"name": "operator", "labels": {"app.kubernetes.io/name": "dynamo-operator"}}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container]}}
    cluster.apply([pod | {"spec": {"containers": [container], "nodeSelector": {"pool": "none"}}}], namespace)
    ready = json.dumps({"status": {"conditions": [{"type": "Ready", "status": "True"}]}})
    cluster.kubectl("patch", "pod", "operator", "-n", namespace, "--subresource=status", "--type=merge", "-p", ready)


def test_a_cluster_that_has_everything(
    api: Api, options: ClusterOptions, add_nodes: AddNodes, cluster: Cluster
) -> None:
    add_nodes("h200-16")
    run_operator(cluster, options.namespace)
    said: list[str] = []
    assert preflight(api, options, PLATFORM, spec_of(), Aiperf(), say=said.append) == []
    rows = {line.split("|")[1].strip(): line.split("|")[2:4] for line in said[0].splitlines() if line.startswith("|")}
    assert rows["API server"][0].strip() == "ok"
    assert "prefill 1 x 8, decode 1 x 8 fit: 16 of 16 GPUs on 2 nodes are free" in said[0]
    assert rows["admission"][0].strip() == "ok"
    assert rows["engine image"][0].strip() == "not checked"
    made = cluster.kubectl("get", "dgd,pods,jobs,configmaps", "-n", options.namespace, "-l", selector(), "-o", "name")
    assert made == ""


def test_every_profile_fits_the_nodes_it_describes(api: Api, options: ClusterOptions, add_nodes: AddNodes) -> None:
    for profile in ("h100-16-4x4", "h100-104"):
        names = add_nodes(profile, **{"only": profile})
        assert names
        on_them = options.model_copy(update={"gpu_node_selector": {"only": profile}})
        found = judged(api, on_them, spec_of(profile))
        assert (found["GPUs"], found["RDMA"], found["admission"]) == ((), (), ())


def test_a_namespace_that_is_missing_or_going(api: Api, options: ClusterOptions, cluster: Cluster) -> None:
    missing = judged(api, options.model_copy(update={"namespace": "nowhere"}))
    (finding,) = missing["namespace"]
    assert (finding.rule, list(missing)) == ("does not exist", ["API server", "namespace"])
    going = f"going-{secrets.token_hex(3)}"
    cluster.kubectl("create", "namespace", going)
    held = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "held", "finalizers": ["example.com/held"]},
    }
    cluster.apply([held], going)
    cluster.kubectl("delete", "namespace", going, "--wait=false")
    try:
        (finding,) = judged(api, options.model_copy(update={"namespace": going}))["namespace"]
        assert finding.rule == "is being deleted: nothing can be made in it"
    finally:
        cluster.kubectl(
            "patch", "configmap", "held", "-n", going, "--type=merge", "-p", '{"metadata":{"finalizers":[]}}'
        )


def test_an_api_server_that_does_not_know_us_or_is_not_there(
    options: ClusterOptions, cluster: Cluster, tmp_path: Path
) -> None:
    document = yaml.safe_load(cluster.kubeconfig.read_text())
    document["users"][0]["user"] = {"token": "expired"}
    (tmp_path / "expired").write_text(yaml.safe_dump(document))
    found = judged(Api(tmp_path / "expired", outage_s=2), options)
    assert list(found) == ["API server"]
    assert "401" in found["API server"][0].rule
    assert found["API server"][0].suggestion == "Log in again, or give another file"
    document["clusters"][0]["cluster"] = {"server": "https://127.0.0.1:9"}
    (tmp_path / "nowhere").write_text(yaml.safe_dump(document))
    with pytest.raises(ApiUnreachable, match="nowhere does not answer"):
        judged(Api(tmp_path / "nowhere", outage_s=2), options)
    with pytest.raises(Refused, match="there is no such kubeconfig"):
        judged(Api(tmp_path / "missing", outage_s=2), options)


def test_a_version_of_the_crd_that_is_not_served(
    api: Api, options: ClusterOptions, add_nodes: AddNodes, cluster: Cluster
) -> None:
    add_nodes("h200-16")
    crd = "dynamographdeployments.nvidia.com"
    versions = json.loads(cluster.kubectl("get", "crd", crd, "-o", "json"))["spec"]["versions"]
    at = next(i for i, v in enumerate(versions) if v["name"] == "v1beta1")

    def serve(served: bool) -> None:
        patch = [{"op": "replace", "path": f"/spec/versions/{at}/served", "value": served}]
        cluster.kubectl("patch", "crd", crd, "--type=json", "-p", json.dumps(patch))

    serve(False)
    try:
        found = judged(api, options)
        (finding,) = found["Dynamo's CRD"]
        assert (finding.rule, finding.suggestion) == ("is not served, but v1alpha1", "Set api_version to v1alpha1")
        assert "admission" not in found
        older = options.model_copy(update={"api_version": "v1alpha1"})
        assert judged(api, older)["admission"] == ()
    finally:
        serve(True)
        wait_for(lambda: judged(api, options)["admission"] == (), 20, "v1beta1 is served again")


def gpus(api: Api, options: ClusterOptions, spec: DeploymentSpec | None = None) -> str:
    """What is said about GPUs, rule and action together."""
    return " -> ".join(f"{f.rule} -> {f.suggestion}" for f in judged(api, options, spec)["GPUs"])


def test_gpus_that_are_not_there(api: Api, options: ClusterOptions, add_nodes: AddNodes) -> None:
    assert "no node offers nvidia.com/gpu" in gpus(api, options)
    add_nodes("h200-8")
    assert "there are too few (8 of 8 GPUs on 1 nodes are free" in gpus(api, options)
    add_nodes("h200-16-4x4")
    assert "there are too few (24 of 24 GPUs on 5 nodes" in gpus(api, options), "pods of 8 fit on no node of 4"
    grows = options.model_copy(update={"autoscaled": True})
    assert [f.severity for f in judged(api, grows)["GPUs"]] == ["warning"]


def test_nodes_with_fewer_gpus_than_a_pod_asks_for(api: Api, options: ClusterOptions, add_nodes: AddNodes) -> None:
    add_nodes("h200-16-4x4")
    assert "no node has 8 (the largest has 4)" in gpus(api, options)
    assert gpus(api, options, spec_of("h200-16-4x4")) == ""


def test_gpus_that_others_hold(
    api: Api, options: ClusterOptions, add_nodes: AddNodes, agent: NodeAgent, cluster: Cluster
) -> None:
    add_nodes("h200-16")
    container = {"name": "x", "image": "example.com/python", "command": ["sleep", "1000"]}
    container |= {"resources": {"limits": {"nvidia.com/gpu": "1"}}}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "theirs"},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
    }
    cluster.apply([pod], "default")
    cluster.kubectl("wait", "--for=condition=PodScheduled", "pod/theirs", "--timeout=20s")
    said = gpus(api, options)
    assert "others hold them: default/theirs (15 of 16 GPUs on 2 nodes are free)" in said
    cluster.kubectl("delete", "pod", "theirs", "--timeout=30s")
    assert gpus(api, options) == ""


def test_nodes_that_shut_our_pods_out(api: Api, options: ClusterOptions, add_nodes: AddNodes, cluster: Cluster) -> None:
    (one, _) = add_nodes("h200-16")
    cluster.kubectl("cordon", one)
    assert f"nodes are cordoned: {one}" in gpus(api, options)
    cluster.kubectl("uncordon", one)
    cluster.kubectl("taint", "nodes", one, "team=other:NoSchedule")
    assert "nodes are tainted: team=other:NoSchedule" in gpus(api, options)
    tolerant = options.model_copy(update={"tolerations": ({"key": "team", "operator": "Equal", "value": "other"},)})
    assert gpus(api, tolerant) == ""
    choosy = tolerant.model_copy(update={"gpu_node_selector": {"pool": "none"}})
    assert "too few nodes carry the labels of gpu_node_selector" in gpus(api, choosy)


def test_other_gpus_and_other_rdma_devices_than_the_profile_counts_on(
    api: Api, options: ClusterOptions, add_nodes: AddNodes
) -> None:
    add_nodes("h100-16")
    found = judged(api, options, spec_of("h200-16"))
    (kind,) = found["kind of GPU"]
    assert kind.severity == "warning"
    assert kind.rule.startswith("counts on 140 GiB per GPU, and nodes have 79 (")
    roce = options.model_copy(update={"rdma_resource": "example.com/roce"})
    (finding,) = judged(api, roce)["RDMA"]
    assert finding.rule == "0 of 2 GPU nodes offer 8 of it; they offer rdma/ib"


@pytest.mark.parametrize(
    ("hard", "rule"),
    [
        ({"requests.nvidia.com/gpu": "8"}, "leaves 8 of 8 requests.nvidia.com/gpu, and the deployment takes 16"),
        ({"pods": "2"}, "leaves 2 of 2 pods, and the deployment takes 5"),
        ({"requests.cpu": "1"}, "leaves 1 of 1 requests.cpu, and the deployment takes 8.05"),
    ],
)
def test_a_quota_that_is_too_small(
    hard: dict[str, str], rule: str, api: Api, options: ClusterOptions, add_nodes: AddNodes, cluster: Cluster
) -> None:
    add_nodes("h200-16")
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small"}, "spec": {"hard": hard}}
    cluster.apply([quota], options.namespace)
    wait_for(lambda: any(f.rule == rule for f in judged(api, options)["quota"]), 15, rule)


def test_a_deployment_that_is_there_already_counts_for_itself(
    api: Api, options: ClusterOptions, add_nodes: AddNodes, cluster: Cluster
) -> None:
    add_nodes("h200-16")
    run_operator(cluster, options.namespace)
    hard = {"requests.nvidia.com/gpu": "16"}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "exact"}, "spec": {"hard": hard}}
    documents = render(spec_of(), options)
    cluster.apply([quota, *documents], options.namespace)
    graph = cluster.kubectl("get", "dgd", "probe", "-n", options.namespace, "-o", "name").strip()
    found = judged(api, options)
    assert [name for name, findings in found.items() if findings] == []
    cluster.kubectl("label", graph, "-n", options.namespace, "app.kubernetes.io/managed-by-", "--overwrite")
    (finding,) = judged(api, options)["name"]
    assert "exists and is not ours" in finding.rule


def test_claims_classes_and_a_priority_that_are_not_there(api: Api, options: ClusterOptions) -> None:
    without = options.model_copy(
        update={"model_claim": "none", "storage_class": "fast", "priority_class": "high", "hf_token_secret": "token"}
    )
    found = judged(api, without, spec_of(engine="dynamo-sglang"))
    assert found["model claim"][0].suggestion == "Run wideep_weights, which makes it and fills it"
    assert found["storage class"][0].rule == "does not exist; there are folders"
    assert found["priority class"][0].rule == "does not exist"
    assert "create secret generic token --from-literal=HF_TOKEN=" in found["Hugging Face hub"][0].suggestion


def test_claims_that_the_first_run_makes_are_no_error(api: Api, options: ClusterOptions) -> None:
    without = options.model_copy(update={"model_claim": "none", "files_claim": "nothing"})
    found = judged(api, without, spec_of(engine="dynamo-sglang").model_copy(update={"model_path": UNKNOWN}))
    for claim in ("model claim", "files claim"):
        (finding,) = found[claim]
        assert (finding.severity, finding.suggestion) == ("warning", "Nothing: the first run makes it")


def test_a_claim_smaller_than_the_model(api: Api, options: ClusterOptions) -> None:
    found = judged(api, options, spec_of(model="DeepSeek-R1", engine="dynamo-sglang", hardware="h200-32"))
    (finding,) = found["model claim"]
    assert "GB where the model takes 688 GB" in finding.rule
    assert finding.suggestion == "Enlarge it to 706Gi: kubectl edit pvc model-cache"


def hub_says(api: Api, options: ClusterOptions) -> str:
    spec = spec_of(engine="dynamo-sglang").model_copy(update={"model_path": "unknown"})
    found = {check.name: check for check in run_checks(api, options, PLATFORM, spec, Aiperf())}
    hub = found["Hugging Face hub"]
    return f"{hub.state}: {hub.found} " + " ".join(f.suggestion for f in hub.findings)


def test_a_gated_model_and_a_token_that_is_accepted_or_not(api: Api, options: ClusterOptions, cluster: Cluster) -> None:
    with serving(Hub("Qwen/Qwen3-30B-A3B", {}, token="good")) as hub:
        asked = options.model_copy(update={"hub_endpoint": hub.url})
        assert hub_says(api, asked).startswith("warning: Qwen/Qwen3-30B-A3B is gated, and it needs a token")
        for token, said in (
            ("bad", "warning: Qwen/Qwen3-30B-A3B is gated, and this token's account"),
            ("good", "ok: gives Qwen/Qwen3-30B-A3B to our token"),
        ):
            secret = {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "hf"},
                "stringData": {"HF_TOKEN": token},
            }
            cluster.apply([secret], options.namespace)
            assert hub_says(api, asked.model_copy(update={"hf_token_secret": "hf"})).startswith(said)


def test_images_by_digest_in_a_real_registry(api: Api, options: ClusterOptions, tmp_path: Path) -> None:
    if absent := registry.missing():
        unavailable(f"no {', '.join(absent)}")
    with registry.serving(tmp_path / "registry") as one:
        image = one.push(registry.python_image(tmp_path / "base"), "benchmark:1")
        digest = one.inspect(image)["Digest"]
        there = options.model_copy(update={"engine_image": f"{one.host}/benchmark:1.6.1", "client_image": image})
        spec = spec_of().model_copy(update={"image": digest})
        found = {check.name: check for check in run_checks(api, there, PLATFORM, spec, Aiperf())}
        assert found["engine image"].found == f"{one.host}/benchmark:1.6.1@{digest} is {digest}"
        assert found["client image"].state == "ok"
        gone = {check.name: check for check in run_checks(api, there, PLATFORM, spec_of(), Aiperf())}["engine image"]
        assert [f.rule for f in gone.findings] == ["is not in its registry"]


@pytest.fixture
def granted(options: ClusterOptions, cluster: Cluster, tmp_path: Path) -> Iterator[Callable[[bool], Api]]:
    """``granted(True)``: our account with what ``rbac.yaml`` grants; ``granted(False)``: the same with nothing."""
    documents = rbac.documents(options.namespace, options.secrets, dynamo.grants())

    def account(allowed: bool) -> Api:
        cluster.apply([d for d in documents if allowed or d["kind"] == "ServiceAccount"])
        path = cluster.account_kubeconfig(options.namespace, rbac.NAME, tmp_path / "account")
        return Api(path, outage_s=5)

    yield account
    cluster.apply(documents)
    for document in documents:
        if "namespace" not in document["metadata"]:
            cluster.kubectl("delete", document["kind"], document["metadata"]["name"])


def test_an_account_with_nothing_and_one_with_what_is_needed(
    granted: Callable[[bool], Api], options: ClusterOptions, add_nodes: AddNodes
) -> None:
    add_nodes("h200-16")
    said: list[str] = []
    findings = preflight(granted(False), options, PLATFORM, spec_of(), Aiperf(), say=said.append)
    of_namespace, of_cluster = [f for f in findings if f.field == "permissions"]
    assert (of_namespace.severity, of_cluster.severity) == ("error", "warning")
    assert "create dynamographdeployments.nvidia.com" in of_namespace.rule
    assert "list nodes" in of_cluster.rule
    found: dict[str, Any] = {c.name: c for c in run_checks(granted(True), options, PLATFORM, spec_of(), Aiperf())}
    assert found["permissions"].found.startswith("all ")
    assert {c.state for c in found.values()} == {"ok", "not checked"}
    assert "pods of other namespaces may not be seen" in found["GPUs"].found
