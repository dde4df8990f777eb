"""The fixtures themselves: what they claim to be real is real."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from wideloop.operators.bootstrap import PROJECT

from tests.cluster.agent import NodeAgent, network
from tests.cluster.agent.faults import Fault
from tests.cluster.cluster import Cluster, wait_for

pytestmark = pytest.mark.cluster

AddNodes = Callable[[str], list[str]]


def pod(name: str, script: str, **spec: object) -> dict[str, object]:
    container = {"name": "main", "image": "example.com/python:3", "command": ["sh", "-c", script]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [container], "restartPolicy": "Never", "terminationGracePeriodSeconds": 1, **spec},
    }


def get(cluster: Cluster, namespace: str, kind: str, name: str) -> dict:
    return json.loads(cluster.kubectl("get", kind, name, "-n", namespace, "-o", "json"))


def test_a_job_runs_to_its_end_and_its_log_is_read_through_the_api_server(
    cluster: Cluster, namespace: str, add_nodes: AddNodes
) -> None:
    from kubernetes import client

    add_nodes("h200-8")
    container = pod("x", 'echo "hello from $NAME on $(hostname)"')["spec"]["containers"][0]
    container["env"] = [{"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "hello"},
        "spec": {"template": {"spec": {"containers": [container], "restartPolicy": "Never"}}},
    }
    cluster.apply([job], namespace)
    wait_for(lambda: get(cluster, namespace, "job", "hello")["status"].get("succeeded") == 1)
    core = client.CoreV1Api(cluster.client())
    (found,) = core.list_namespaced_pod(namespace, label_selector="job-name=hello").items
    assert found.status.phase == "Succeeded"
    answer = core.read_namespaced_pod_log(found.metadata.name, namespace, tail_lines=5, _preload_content=False)
    assert answer.data.decode() == f"hello from {found.metadata.name} on {found.metadata.name}\n"


def test_the_service_proxy_reaches_a_server_in_a_pod_and_pods_find_it_by_name(
    cluster: Cluster, namespace: str, add_nodes: AddNodes
) -> None:
    add_nodes("h200-8")
    server = pod("web", "exec python3 -m http.server 8000 --directory /data")
    server["spec"]["containers"][0] |= {
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        "readinessProbe": {"httpGet": {"path": "/x", "port": 8000}, "periodSeconds": 1},
    }
    server["spec"]["volumes"] = [{"name": "data", "configMap": {"name": "data"}}]
    data = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "data"}, "data": {"x": "from a volume"}}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 8000}]},
    }
    cluster.apply([data, server, service], namespace)
    cluster.kubectl("wait", "--for=condition=Ready", "pod/web", "-n", namespace, "--timeout=30s")
    proxied = f"/api/v1/namespaces/{namespace}/services/web:8000/proxy/x"
    assert wait_for(lambda: answered(cluster, proxied)) == "from a volume"
    assert cluster.kubectl("get", "--raw", f"/api/v1/namespaces/{namespace}/pods/web:8000/proxy/x") == "from a volume"

    script = "import urllib.request as u; print(u.urlopen('http://web:8000/x').read().decode())"
    cluster.apply([pod("caller", f'python3 -c "{script}"')], namespace)
    done = "--for=jsonpath={.status.phase}=Succeeded"
    cluster.kubectl("wait", done, "pod/caller", "-n", namespace, "--timeout=30s")
    assert cluster.kubectl("logs", "caller", "-n", namespace) == "from a volume\n"


def test_a_pod_talks_to_the_api_server_with_its_own_account(
    cluster: Cluster, namespace: str, add_nodes: AddNodes
) -> None:
    add_nodes("h200-8")
    script = """
import os, ssl, urllib.request as u, urllib.error
d = "/var/run/secrets/kubernetes.io/serviceaccount/"
host = os.environ["KUBERNETES_SERVICE_HOST"] + ":" + os.environ["KUBERNETES_SERVICE_PORT"]
namespace = open(d + "namespace").read()
request = u.Request(f"https://{host}/api/v1/namespaces/{namespace}/pods")
request.add_header("Authorization", "Bearer " + open(d + "token").read())
try:
    u.urlopen(request, context=ssl.create_default_context(cafile=d + "ca.crt"))
except urllib.error.HTTPError as error:
    print(error.read().decode())
"""
    asks = pod("asks", "")
    asks["spec"]["containers"][0]["command"] = ["python3", "-c", script]
    cluster.apply([asks], namespace)
    done = "--for=jsonpath={.status.phase}=Succeeded"
    cluster.kubectl("wait", done, "pod/asks", "-n", namespace, "--timeout=30s")
    account = f"system:serviceaccount:{namespace}:default"
    assert f'User \\"{account}\\" cannot list' in cluster.kubectl("logs", "asks", "-n", namespace)


def answered(cluster: Cluster, path: str) -> str:
    """What the API server answers, nothing for as long as it has no endpoint."""
    try:
        return cluster.kubectl("get", "--raw", path)
    except subprocess.CalledProcessError:
        return ""


def test_the_scheduler_says_that_gpus_are_missing(cluster: Cluster, namespace: str, add_nodes: AddNodes) -> None:
    add_nodes("h200-8")
    greedy = pod("greedy", "true")
    greedy["spec"]["containers"][0]["resources"] = {"limits": {"nvidia.com/gpu": "9"}}
    cluster.apply([greedy], namespace)

    def reason() -> str:
        conditions = get(cluster, namespace, "pod", "greedy")["status"].get("conditions", ())
        return next((one["message"] for one in conditions if one["type"] == "PodScheduled"), "")

    assert "Insufficient nvidia.com/gpu" in wait_for(reason)


def test_a_watch_goes_on_after_the_api_server_was_killed(cluster: Cluster, namespace: str, add_nodes: AddNodes) -> None:
    assert cluster.own
    add_nodes("h200-8")
    cluster.apply([pod("before", "sleep 1000")], namespace)
    cluster.kubectl("wait", "--for=condition=Ready", "pod/before", "-n", namespace, "--timeout=30s")
    cluster.own.restart_apiserver(down_s=1)
    cluster.apply([pod("after", "true")], namespace)
    done = "--for=jsonpath={.status.phase}=Succeeded"
    cluster.kubectl("wait", done, "pod/after", "-n", namespace, "--timeout=30s")
    assert get(cluster, namespace, "pod", "before")["status"]["phase"] == "Running"


def test_a_deleted_pod_leaves_no_process(
    cluster: Cluster, namespace: str, agent: NodeAgent, add_nodes: AddNodes
) -> None:
    add_nodes("h200-8")
    cluster.apply([pod("family", "sleep 1000 & sleep 1000 & wait")], namespace)
    cluster.kubectl("wait", "--for=condition=Ready", "pod/family", "-n", namespace, "--timeout=30s")
    family = psutil.Process(agent.processes(namespace)["family/main"])
    everyone = wait_for(lambda: len(all := [family, *family.children(recursive=True)]) == 3 and all)
    cluster.kubectl("delete", "pod", "family", "-n", namespace, "--timeout=30s")
    assert not any(one.is_running() for one in everyone)


@pytest.mark.parametrize(
    ("fault", "reason"), [("pull", "ImagePullBackOff"), ("exit", "CrashLoopBackOff")], ids=["image", "crash"]
)
def test_pods_fail_as_a_test_asks(
    fault: Any, reason: str, cluster: Cluster, namespace: str, agent: NodeAgent, add_nodes: AddNodes
) -> None:
    add_nodes("h200-8")
    with agent.fault(Fault(fault, namespace, code=3)):
        cluster.apply([pod("victim", "sleep 1000", restartPolicy="Always")], namespace)

        def waiting() -> bool:
            states = get(cluster, namespace, "pod", "victim")["status"].get("containerStatuses", ())
            return any(one["state"].get("waiting", {}).get("reason") == reason for one in states)

        wait_for(waiting)
    cluster.kubectl("wait", "--for=condition=Ready", "pod/victim", "-n", namespace, "--timeout=30s")


def test_a_container_killed_for_memory_says_so(
    cluster: Cluster, namespace: str, agent: NodeAgent, add_nodes: AddNodes
) -> None:
    add_nodes("h200-8")
    cluster.apply([pod("big", "sleep 1000")], namespace)
    cluster.kubectl("wait", "--for=condition=Ready", "pod/big", "-n", namespace, "--timeout=30s")
    agent.kill(namespace, "big", out_of_memory=True)
    cluster.kubectl("wait", "--for=jsonpath={.status.phase}=Failed", "pod/big", "-n", namespace, "--timeout=30s")
    (state,) = get(cluster, namespace, "pod", "big")["status"]["containerStatuses"]
    assert (state["state"]["terminated"]["exitCode"], state["state"]["terminated"]["reason"]) == (137, "OOMKilled")


def test_nothing_outlives_a_session_that_was_killed(agent: NodeAgent, tmp_path: Path) -> None:
    session = subprocess.Popen(
        [sys.executable, "-m", "tests.cluster", "l4-8"],
        cwd=PROJECT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert session.stdout
        kubeconfig, kubectl = (session.stdout.readline().strip().partition("=")[2] for _ in range(2))
        cluster = Cluster(Path(kubeconfig), kubectl)
        cluster.apply([pod("orphan", "sleep 1000 & wait")], "default")
        cluster.kubectl("wait", "--for=condition=Ready", "pod/orphan", "--timeout=30s")

        def everyone() -> list[psutil.Process]:
            found = psutil.Process(session.pid).children(recursive=True)
            return found if {"etcd", "kube-apiserver", "sleep"} < {one.name() for one in found} else []

        # A container is ready before its shell has started anything.
        family = wait_for(everyone)
    finally:
        session.kill()
        session.wait()
    wait_for(lambda: not any(alive(one) for one in family))
    network.remove_abandoned()
    assert network.left_behind(session.pid) == []


def alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
