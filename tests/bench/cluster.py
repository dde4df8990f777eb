"""What the ``dynamo`` target adds to a deployment's start, and what waiting costs the API server."""

from __future__ import annotations

import asyncio
import statistics
import time
from pathlib import Path

from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.engines import get_engine
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.operators.request import Request
from wideloop.operators.settings import Settings
from wideloop.operators.targets.base import Owner
from wideloop.operators.targets.dynamo import DynamoTarget
from wideloop.operators.targets.kubernetes import view
from wideloop.operators.targets.kubernetes.cluster import Cluster, cluster

from tests.bench.control_plane import control_plane
from tests.bench.figure import Figure
from tests.bench.workspace import BenchError, Workspace

LIMIT_S = 5.0
LIMIT_PER_MINUTE = 6.0
_DEPLOYMENTS = 3
_WAITING = 50
#: Less than what nodes are given to appear: after that a deployment counts as one that cannot be scheduled.
_WAIT_S = 45.0
_START_S = 60.0
_OWNER = Owner(dag_id="bench", run_id="bench")
_NOWHERE = {"wideloop/nowhere": "yes"}
_MODEL = "Qwen3-30B-A3B-FP8"
_PROFILE = "h100-8"


def measure(workspace: Workspace) -> list[Figure]:
    """Start a few deployments one after the other, then have many wait at once.

    Raises:
        BenchError: one did not start, or did not wait.
    """
    with control_plane(workspace, _PROFILE) as kubeconfig:
        settings = _settings(workspace, kubeconfig)
        target, here = DynamoTarget(settings), cluster(settings, DynamoTarget.platform)
        # Without any matching node a deployment only waits.
        nowhere = settings.cluster.changed(cpu_node_selector=_NOWHERE, gpu_node_selector=_NOWHERE)
        elsewhere = settings.model_copy(update={"cluster": nowhere})
        model_path = target.prepare_weights(get_engine("simulated"), _MODEL).path
        workspace.say("starting deployments")
        starts = [_start(target, here, _spec(f"start-{k}", model_path)) for k in range(_DEPLOYMENTS)]
        workspace.say(f"{_WAITING} deployments wait for {_WAIT_S:.0f} s")
        per_minute = asyncio.run(_wait(DynamoTarget(elsewhere), cluster(elsewhere, DynamoTarget.platform), model_path))
    applied, running = (statistics.median(times) for times in zip(*starts, strict=True))
    return [
        Figure(
            "apply to the engine's start",
            LIMIT_S,
            running,
            "s",
            f"median of {_DEPLOYMENTS}: apply {applied:.2f} s, then operator, scheduler and node agent of the tests "
            "until every container of the engine runs; no image is pulled",
        ),
        Figure(
            "API requests per waiting deployment",
            LIMIT_PER_MINUTE,
            per_minute,
            "/min",
            f"{_WAITING} that wait for nodes at once in one process, over {_WAIT_S:.0f} s once the watch is up",
        ),
    ]


def _settings(workspace: Workspace, kubeconfig: Path) -> Settings:
    options = ClusterOptions(
        namespace="default",
        engine_image="example.com/simulated:1.6.1",
        client_image="example.com/benchmark:1",
        rdma_resource="",
    )
    return Settings(home=workspace.folder, kubeconfig=kubeconfig, cluster=options)


def _spec(name: str, model_path: str) -> DeploymentSpec:
    params = {"target": DynamoTarget.name, "model": _MODEL, "hardware": _PROFILE}
    return Request.from_params(params).spec(name, f"sha256:{'0' * 64}", model_path)


def _start(target: DynamoTarget, here: Cluster, spec: DeploymentSpec) -> tuple[float, float]:
    """Seconds until apply has returned, and until every container of the engine runs."""
    began = time.monotonic()
    target.apply(spec, _OWNER)
    applied = time.monotonic() - began
    wanted = len(get_engine(spec.engine).components(spec))
    while True:
        pods = view.look(here.api, here.options, here.platform, spec.name).engine_pods
        running = [p for p in pods if p.get("status", {}).get("phase") == "Running"]
        seconds = time.monotonic() - began
        if len(running) == wanted:
            break
        if seconds > _START_S:
            raise BenchError(f"{spec.name} has not started: {target.status(spec.name).reason}")
        time.sleep(0.05)
    target.delete(spec.name)
    return applied, seconds


async def _wait(target: DynamoTarget, here: Cluster, model_path: str) -> float:
    """Requests per minute and deployment while many wait for nodes that do not exist."""
    names = [f"wait-{k}" for k in range(_WAITING)]
    for name in names:
        await asyncio.to_thread(target.apply, _spec(name, model_path), _OWNER)

    async def wait(name: str) -> None:
        while (await asyncio.to_thread(target.status, name)).state == "pending":
            await target.changed(name)

    waiting = [asyncio.create_task(wait(name)) for name in names]
    while not here.watch.synced:
        await asyncio.sleep(0.1)
    before, began = here.api.requests, time.monotonic()
    await asyncio.sleep(_WAIT_S)
    requests = here.api.requests - before
    for task in waiting:
        task.cancel()
    return requests * 60 / (time.monotonic() - began) / _WAITING
