"""What the preflight costs on a cluster of a thousand nodes, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from wideloop.manifests.kubernetes.model_cache import files_claim, model_claim
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.operators.targets.kubernetes.api import MERGE, Api
from wideloop.operators.targets.kubernetes.objects import apply

from tests.bench.control_plane import control_plane
from tests.bench.figure import Figure
from tests.bench.workspace import BenchError, Workspace

LIMIT_S, LIMIT_MIB = 10.0, 300.0
_NODES, _PODS = 1000, 3000
_GPUS = 8
_READY = 100
#: A node in use lists what it has pulled; this makes one of ours as large as those.
_IMAGES = 50
_NAMESPACE = "default"
_PROBE = """
import json, resource, sys, time
began = time.monotonic()
from wideloop.operators.request import Request
from wideloop.operators.settings import settings
from wideloop.operators.targets.dynamo import DynamoTarget
from wideloop.operators.targets.kubernetes.cluster import cluster
from wideloop.operators.targets.kubernetes.preflight import preflight
platform = DynamoTarget.platform
here = cluster(settings(), platform)
params = {"target": "dynamo", "engine": "dynamo-sglang", "model": "DeepSeek-R1", "hardware": "h200-32"}
request = Request.from_params(params)
spec = request.spec("bench", "sha256:" + "0" * 64, "/model-cache/m")
lines = []
findings = preflight(here.api, here.options, platform, spec, request.generator, say=lines.append)
used = resource.getrusage(resource.RUSAGE_SELF)
print(lines[0], file=sys.stderr)
print(json.dumps({
    "s": time.monotonic() - began, "mib": used.ru_maxrss / 1024, "cpu_s": used.ru_utime + used.ru_stime,
    "requests": here.api.requests, "errors": [str(f) for f in findings if f.severity == "error"],
}))
"""


def measure(workspace: Workspace) -> list[Figure]:
    """Time and memory of one preflight.

    Raises:
        BenchError: it reported an error on a cluster without any.
    """
    with control_plane(workspace, "h200-8") as kubeconfig:
        workspace.say(f"making {_NODES} nodes and {_PODS} pods")
        size = _fill(Api(kubeconfig))
        result = _run(kubeconfig)
    if result["errors"]:
        raise BenchError(f"the preflight found {result['errors']}")
    made_of = (
        f"{_NODES} nodes of {size / 1000:.0f} kB each and {_PODS} pods with a GPU, DeepSeek-R1 on h200-32; a process "
        f"of its own with its imports, {result['cpu_s']:.1f} CPU s, {result['requests']} requests; "
        "no registry and no hub"
    )
    return [
        Figure("preflight on 1,000 nodes", LIMIT_S, result["s"], "s", made_of),
        Figure("its peak memory", LIMIT_MIB, result["mib"], "MiB", "RSS of the same process"),
    ]


def _fill(api: Api) -> int:
    """Make claims, nodes and pods; returns the bytes of one node."""
    options = ClusterOptions(namespace=_NAMESPACE)
    apply(api, model_claim(options, 700 * 10**9))
    apply(api, files_claim(options))
    with ThreadPoolExecutor(16) as pool:
        nodes = [*pool.map(lambda n: api.request("POST", "/api/v1/nodes", None, _node(n)), range(_NODES))]
        # New nodes are tainted until they report ready; some of the nodes without pods are made ready.
        ready = {"spec": {"taints": None}}
        paths = [f"/api/v1/nodes/node-{n}" for n in range(_NODES // 2, _NODES // 2 + _READY)]
        [*pool.map(lambda path: api.request("PATCH", path, None, ready, content_type=MERGE), paths)]
        pods = f"/api/v1/namespaces/{_NAMESPACE}/pods"
        [*pool.map(lambda n: api.request("POST", pods, None, _pod(n)), range(_PODS))]
    return len(json.dumps(nodes[0]))


def _node(number: int) -> dict[str, Any]:
    amounts = {"cpu": "192", "memory": "2Ti", "pods": "110", "nvidia.com/gpu": str(_GPUS), "rdma/ib": "1000"}
    images = [
        {"names": [f"registry.example.com/team/image-{i}@sha256:{i:064d}"], "sizeBytes": 10**9} for i in range(_IMAGES)
    ]
    labels = {"nvidia.com/gpu.product": "NVIDIA-H200", "nvidia.com/gpu.memory": "143771"}
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "ready"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": f"node-{number}", "labels": labels | {f"example.com/label-{i}": "x" for i in range(60)}},
        "status": {"capacity": amounts, "allocatable": amounts, "conditions": [ready], "images": images},
    }


def _pod(number: int) -> dict[str, Any]:
    """A pod with a GPU on one of the first nodes: the others stay free."""
    container = {"name": "main", "image": "example.com/x", "resources": {"limits": {"nvidia.com/gpu": "1"}}}
    spec = {"containers": [container], "nodeName": f"node-{number % (_NODES // 2)}"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"pod-{number}"}, "spec": spec}


def _run(kubeconfig: Path) -> dict[str, Any]:
    # An address without a server, so that neither a registry's nor the hub's time is measured.
    nowhere = "127.0.0.1:9"
    env = {
        **os.environ,
        "WIDELOOP_KUBECONFIG": str(kubeconfig),
        "WIDELOOP_CLUSTER__NAMESPACE": _NAMESPACE,
        "WIDELOOP_CLUSTER__ENGINE_IMAGE": f"{nowhere}/sglang:1.6.1",
        "WIDELOOP_CLUSTER__CLIENT_IMAGE": f"{nowhere}/benchmark:1",
        "WIDELOOP_CLUSTER__HUB_ENDPOINT": f"http://{nowhere}",
    }
    done = subprocess.run([sys.executable, "-c", _PROBE], env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"the preflight failed: {done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result
