"""The account of ``rbac.yaml``: enough for everything that prepares a deployment, and for nothing else."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from wideloop.manifests.engines import get_engine
from wideloop.manifests.errors import ApiRefused
from wideloop.manifests.kubernetes import dynamo, rbac
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.manifests.kubernetes.task_job import Task, task_documents
from wideloop.operators.targets.kubernetes.api import Api
from wideloop.operators.targets.kubernetes.image import registry
from wideloop.operators.targets.kubernetes.job_run import run_to_end
from wideloop.operators.targets.kubernetes.preflight.access import check_permissions
from wideloop.operators.targets.kubernetes.weights import prepare_weights

from tests.cluster.cluster import Cluster

pytestmark = pytest.mark.cluster


@pytest.fixture
def options(namespace: str, cluster: Cluster, add_nodes: Callable[[str], list[str]]) -> ClusterOptions:
    add_nodes("h200-8")
    for name, key in (("hf-token-secret", "HF_TOKEN"), ("others", "password")):
        data = {key: base64.b64encode(b"hidden").decode()}
        cluster.apply([{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}], namespace)
    return ClusterOptions(
        namespace=namespace,
        client_image="example.com/benchmark:1",
        engine_image="example.com/simulated:1.6.1",
        hf_token_secret="hf-token-secret",
    )


@pytest.fixture
def account(options: ClusterOptions, cluster: Cluster, tmp_path: Path) -> Iterator[Api]:
    """The API server as our account sees it."""
    documents = rbac.documents(options.namespace, options.secrets, dynamo.grants())
    cluster.apply(documents)
    path = cluster.account_kubeconfig(options.namespace, rbac.NAME, tmp_path / "account")
    yield Api(path, outage_s=10)
    for document in documents:
        if "namespace" not in document["metadata"]:
            cluster.kubectl("delete", document["kind"], document["metadata"]["name"])


def test_what_it_may_is_enough_to_prepare_a_model(account: Api, options: ClusterOptions) -> None:
    assert check_permissions(account, options, dynamo.grants()).state == "ok"
    said: list[str] = []
    assert prepare_weights(account, options, get_engine("simulated"), "Qwen3-30B-A3B", say=said.append).files > 0
    assert any("is complete" in line for line in said), "the log was followed"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/namespaces/{ns}/secrets"),
        ("GET", "/api/v1/namespaces/{ns}/secrets/others"),
        ("PATCH", "/api/v1/namespaces/{ns}/secrets/hf-token-secret"),
        ("GET", "/api/v1/secrets"),
        ("GET", "/api/v1/namespaces"),
        ("GET", "/api/v1/namespaces/kube-system"),
        ("GET", "/api/v1/namespaces/default/pods"),
        ("GET", "/api/v1/pods"),
        ("GET", "/api/v1/namespaces/default/configmaps/kube-root-ca.crt"),
        ("DELETE", "/api/v1/namespaces/{ns}"),
        ("DELETE", "/api/v1/namespaces/{ns}/persistentvolumeclaims/model-cache"),
        ("DELETE", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/dynamographdeployments.nvidia.com"),
        ("GET", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"),
        ("POST", "/api/v1/namespaces/{ns}/serviceaccounts/default/token"),
        ("POST", "/api/v1/namespaces/{ns}/pods/x/exec"),
        ("POST", "/apis/rbac.authorization.k8s.io/v1/namespaces/{ns}/rolebindings"),
        ("POST", "/apis/batch/v1/namespaces/default/jobs"),
        ("POST", "/apis/nvidia.com/v1beta1/namespaces/default/dynamographdeployments"),
    ],
)
def test_what_it_may_not(method: str, path: str, account: Api, options: ClusterOptions) -> None:
    body = None if method == "GET" else {"kind": "Status", "apiVersion": "v1", "metadata": {}}
    kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
    with pytest.raises(ApiRefused) as refused:
        account.request(method, path.format(ns=options.namespace), None, body, content_type=kind)
    assert refused.value.status == 403, refused.value


def test_a_login_is_read_where_it_is_named_and_only_there(
    account: Api, options: ClusterOptions, cluster: Cluster
) -> None:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "login"},
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": base64.b64encode(b'{"auths": {"example.com": {"auth": "eDp5"}}}').decode()},
    }
    cluster.apply([secret], options.namespace)
    named = options.model_copy(update={"registry_secret": "login"})
    assert registry(account, named)._logins == {}, "a secret that the Role does not name stays unread"
    cluster.apply(rbac.documents(options.namespace, named.secrets, dynamo.grants()))
    assert registry(account, named)._logins == {"example.com": "eDp5"}


def test_a_pod_of_ours_has_no_token(account: Api, options: ClusterOptions) -> None:
    script = "cat /var/run/secrets/kubernetes.io/serviceaccount/token 2>&1 | tee $WIDELOOP_RESULT"
    task = Task(kind="smoke-test", name="look", image="example.com/python", command=("sh", "-c", script), limit_s=60)
    assert "No such file" in run_to_end(account, task_documents(options, task), say=lambda _: None)
