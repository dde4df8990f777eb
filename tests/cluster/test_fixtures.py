"""The fixtures themselves: what they claim to be real is real."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

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
