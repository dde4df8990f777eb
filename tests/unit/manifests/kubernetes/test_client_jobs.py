from __future__ import annotations

from wideloop.manifests.engines.base import Command
from wideloop.manifests.kubernetes.demand import beside
from wideloop.manifests.kubernetes.jobs import client_job, client_job_name, files_pod, owned_by
from wideloop.manifests.kubernetes.labels import is_ours
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.operators.airflow.target_operator import WAIT_TIMEOUT_S

OPTIONS = ClusterOptions(
    namespace="ns",
    image_pull_secret="login",
    cpu_node_selector={"pool": "cpu"},
    priority_class="low",
    files_claim="files-claim",
    model_claim="model-claim",
)
COMMAND = Command(argv=("sh", "-c", "true"), env={"B": "2", "A": "1"})
GRAPH = {"apiVersion": "nvidia.com/v1beta1", "kind": "DynamoGraphDeployment", "metadata": {"name": "d", "uid": "u"}}


def test_a_client_runs_once_and_goes_with_its_deployment() -> None:
    job = client_job("d", "bench-1", COMMAND, OPTIONS, "image:1", owned_by(GRAPH))
    assert job["metadata"]["name"] == client_job_name("d", "bench-1") == "d-bench-1"
    assert job["metadata"]["ownerReferences"][0]["uid"] == "u"
    assert is_ours(job)
    pod = job["spec"]["template"]["spec"]
    assert (job["spec"]["backoffLimit"], pod["restartPolicy"]) == (0, "Never")
    assert job["spec"]["activeDeadlineSeconds"] > WAIT_TIMEOUT_S
    assert pod["containers"][0]["command"] == ["sh", "-c", "true"]
    env = {e["name"]: e["value"] for e in pod["containers"][0]["env"]}
    assert env == {"A": "1", "B": "2", "HOME": "/tmp", "USER": "wideloop"}


def test_pods_beside_the_engines_need_no_gpu_node_and_no_account() -> None:
    job = client_job("d", "bench-1", COMMAND, OPTIONS, "image:1", [])
    for pod in (job["spec"]["template"]["spec"], files_pod("d", OPTIONS, "image:1", {})["spec"]):
        assert pod["nodeSelector"] == {"pool": "cpu"}
        assert pod["imagePullSecrets"] == [{"name": "login"}]
        assert pod["priorityClassName"] == "low"
        assert pod["automountServiceAccountToken"] is False


def test_a_client_reads_the_models_and_writes_to_the_files() -> None:
    pod = client_job("d", "bench-1", COMMAND, OPTIONS, "image:1", [])["spec"]["template"]["spec"]
    mounts = {m["name"]: m for m in pod["containers"][0]["volumeMounts"]}
    claims = {v["name"]: v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"]}
    assert claims == {"files": "files-claim", "models": "model-claim"}
    assert mounts["models"]["readOnly"] is True
    assert "readOnly" not in mounts["files"]
    assert OPTIONS.files_dir("d").startswith(mounts["files"]["mountPath"])


def test_the_pod_that_serves_files_says_whose_the_deployment_is() -> None:
    pod = files_pod("d", OPTIONS, "image:1", {"wideloop/owner-run": "r"})
    assert pod["metadata"]["annotations"] == {"wideloop/owner-run": "r"}
    assert "ownerReferences" not in pod["metadata"]


def test_pods_beside_the_engines_count_in_what_a_deployment_asks_for() -> None:
    files, client = beside(OPTIONS)
    assert (files.pods, files.requests["cpu"], files.limits) == (1, "50m", {})
    assert (client.pods, client.requests["cpu"], client.requests["memory"]) == (1, "4", "8Gi")
    assert client.selector == {"pool": "cpu"}
