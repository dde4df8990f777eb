"""The stand-in for Dynamo's operator, and the definition of its resource."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from tests.cluster.agent import NodeAgent
from tests.cluster.cluster import Cluster, wait_for
from tests.cluster.dynamo_operator import DynamoOperator

pytestmark = pytest.mark.cluster

AddNodes = Callable[[str], list[str]]

IMAGE = "example.com/python:3.11.0"


def component(name: str, kind: str, port: int, **more: Any) -> dict[str, Any]:
    probe = {"tcpSocket": {"port": port}, "periodSeconds": 1, "failureThreshold": 30}
    main = {
        "name": "main",
        "image": IMAGE,
        "command": ["python3", "-c", f"import http.server as h; h.test(h.SimpleHTTPRequestHandler, port={port})"],
        "startupProbe": probe,
        "readinessProbe": probe,
        "livenessProbe": probe,
    }
    spec = {"containers": [main], "terminationGracePeriodSeconds": 1}
    return {"name": name, "type": kind, "replicas": 1, "podTemplate": {"spec": spec}, **more}


def graph(name: str, *components: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "nvidia.com/v1beta1",
        "kind": "DynamoGraphDeployment",
        "metadata": {"name": name},
        "spec": {"backendFramework": "sglang", "components": list(components)},
    }


def pods(cluster: Cluster, namespace: str) -> list[dict[str, Any]]:
    return json.loads(cluster.kubectl("get", "pods", "-n", namespace, "-o", "json"))["items"]


def test_a_graph_becomes_ready_is_reached_by_its_frontend_service_and_goes_as_a_whole(
    cluster: Cluster, namespace: str, agent: NodeAgent, add_nodes: AddNodes, operator: DynamoOperator
) -> None:
    add_nodes("h200-32")
    decode = component("decode", "decode", 9090, multinode={"nodeCount": 2})
    decode["podTemplate"]["spec"]["containers"][0]["resources"] = {"limits": {"nvidia.com/gpu": "8", "rdma/ib": "8"}}
    cluster.apply([graph("g", component("Frontend", "frontend", 8000), decode)], namespace)
    cluster.kubectl("wait", "--for=condition=Ready", "dgd/g", "-n", namespace, "--timeout=60s")

    address = f"/api/v1/namespaces/{namespace}/services/g-frontend:8000/proxy/"
    assert "Directory listing" in cluster.kubectl("get", "--raw", address)
    by_name = {pod["metadata"]["name"]: pod for pod in pods(cluster, namespace)}
    leader, other = by_name["g-decode-0-0"], by_name["g-decode-0-0-1"]
    (worker,) = other["spec"]["containers"]
    assert worker["args"][:2] == ["--dist-init-addr", "$(LWS_LEADER_ADDRESS):29500"]
    assert worker["args"][2:] == ["--nnodes", "2", "--node-rank", "$(LWS_WORKER_INDEX)"]
    variables = {one["name"]: one.get("value") for one in worker["env"]}
    assert variables["LWS_LEADER_ADDRESS"] == f"g-decode-0-0.g-decode-0.{namespace}"
    assert "startupProbe" not in worker
    indices = "leaderworkerset.sigs.k8s.io/group-index", "leaderworkerset.sigs.k8s.io/worker-index"
    assert [[pod["metadata"]["labels"][key] for key in indices] for pod in (leader, other)] == [["0", "0"], ["0", "1"]]
    assert leader["spec"]["nodeName"] != other["spec"]["nodeName"]

    cluster.kubectl("delete", "dgd", "g", "-n", namespace)
    wait_for(lambda: pods(cluster, namespace) == [], 60, "the pods are gone with their graph")
    assert agent.processes(namespace) == {}


def test_a_container_that_restarts_has_its_whole_group_made_anew(
    cluster: Cluster, namespace: str, agent: NodeAgent, add_nodes: AddNodes, operator: DynamoOperator
) -> None:
    add_nodes("h200-32")
    cluster.apply([graph("g", component("decode", "decode", 9090, multinode={"nodeCount": 2}))], namespace)
    cluster.kubectl("wait", "--for=condition=Ready", "dgd/g", "-n", namespace, "--timeout=60s")
    before = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in pods(cluster, namespace)}
    agent.kill(namespace, "g-decode-0-0-1")

    def replaced() -> bool:
        now = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in pods(cluster, namespace)}
        return set(now) == set(before) and not set(now.values()) & set(before.values())

    wait_for(replaced, 60, "a new pod for each of the group")
    cluster.kubectl("wait", "--for=condition=Ready", "dgd/g", "-n", namespace, "--timeout=60s")
    statuses = [status for pod in pods(cluster, namespace) for status in pod["status"]["containerStatuses"]]
    assert [status["restartCount"] for status in statuses] == [0, 0]
    said = cluster.kubectl("get", "events", "-n", namespace, "--field-selector=reason=RecreateGroup", "-o", "name")
    assert len(said.split()) == 1


def test_a_graph_of_the_older_version_runs_too(
    cluster: Cluster, namespace: str, add_nodes: AddNodes, operator: DynamoOperator
) -> None:
    add_nodes("h200-8")
    (main,) = component("x", "worker", 9090)["podTemplate"]["spec"]["containers"]
    pod = {"mainContainer": {key: main[key] for key in main if key != "name"}, "terminationGracePeriodSeconds": 1}
    worker = {"componentType": "worker", "subComponentType": "decode", "replicas": 1, "extraPodSpec": pod}
    worker |= {"resources": {"limits": {"gpu": "8"}}, "sharedMemory": {"size": "1Gi"}}
    alpha = {
        "apiVersion": "nvidia.com/v1alpha1",
        "kind": "DynamoGraphDeployment",
        "metadata": {"name": "old"},
        "spec": {"backendFramework": "sglang", "services": {"decode": worker}},
    }
    cluster.apply([alpha], namespace)
    cluster.kubectl("wait", "--for=condition=Ready", "dgd/old", "-n", namespace, "--timeout=60s")
    (found,) = pods(cluster, namespace)
    assert found["metadata"]["labels"]["nvidia.com/dynamo-component-type"] == "decode"
    assert found["spec"]["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": "8"}


def test_a_misspelt_field_is_refused(cluster: Cluster, namespace: str) -> None:
    wrong = graph("new", component("Frontend", "frontend", 8000))
    wrong["spec"]["components"][0]["podTemplate"]["spec"]["containers"][0]["livenesProbe"] = {}
    with pytest.raises(subprocess.CalledProcessError, match="livenesProbe"):
        cluster.apply([wrong], namespace)
