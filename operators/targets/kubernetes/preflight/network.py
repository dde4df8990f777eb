"""Try the network between the nodes of a deployment by a Job that takes its workers' place for minutes."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.errors import TargetError
from wideloop.manifests.findings import Finding
from wideloop.manifests.kubernetes import network_check
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.operators.targets.kubernetes.api import Api, Json
from wideloop.operators.targets.kubernetes.objects import apply, collection, delete, path_of
from wideloop.operators.targets.kubernetes.pod_start import pending_s, start_failure
from wideloop.operators.targets.kubernetes.preflight.check_result import CheckResult
from wideloop.operators.targets.kubernetes.preflight.fabric import Fabric, Lane, measure, problems

_NAME = "network"
_POLL_S = 2.0
#: Seconds for images to be pulled and agents to listen, and for one step of all lanes between two nodes.
_STARTS_S = 900.0
_STEP_S = 55.0


class PodAgent:
    """The agent of one pod, through the API server's proxy."""

    def __init__(self, api: Api, pod: Json) -> None:
        metadata = pod["metadata"]
        self._api = api
        self._proxy = (
            f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}:{network_check.AGENT_PORT}/proxy"
        )
        self.address: str = pod["status"]["podIP"]

    def node(self) -> Mapping[str, object]:
        """What its node has."""
        facts: Mapping[str, object] = self._ask("GET", "/", None)
        return facts

    def serve(self, tool: str, lanes: Sequence[Lane]) -> None:
        """Start the serving ends of lanes."""
        self._ask("POST", "/serve", {"tool": tool, "lanes": list(lanes)})

    def connect(self, tool: str, lanes: Sequence[Lane]) -> Sequence[Mapping[str, object]]:
        """Send over all lanes at once."""
        sent: Sequence[Mapping[str, object]] = self._ask("POST", "/connect", {"tool": tool, "lanes": list(lanes)})
        return sent

    def _ask(self, method: str, path: str, body: Any) -> Any:
        with self._api.stream(method, self._proxy + path, None, body, timeout_s=_STEP_S, proxied=True) as answer:
            return json.loads(answer.read())


def check_network(
    api: Api, options: ClusterOptions, spec: DeploymentSpec, *, say: Callable[[str], None] = print
) -> CheckResult:
    """Every RDMA device of every node against every one of the other nodes; takes the deployment's GPUs meanwhile."""
    if network_check.nodes(spec) < 2:
        return CheckResult(_NAME, "not needed: the deployment lies on one node")
    name = f"wideloop-network-{secrets.token_hex(3)}"
    (job,) = network_check.documents(spec, options, name)
    apply(api, job)
    try:
        pods = _started(api, options, name, job["spec"]["completions"], say)
        return judged(spec, measure([PodAgent(api, pod) for pod in pods], network_check.LANE_PORT, say))
    except (TargetError, ValueError, KeyError) as error:
        return CheckResult(_NAME, f"could not be tried: {error}", made=False)
    finally:
        delete(api, path_of(job), propagation="Foreground")


def judged(spec: DeploymentSpec, fabric: Fabric) -> CheckResult:
    """What was measured as a line of the preflight."""
    if not fabric.devices:
        rule = "no pod sees an RDMA device: workers would talk over TCP"
        action = "Set rdma_resource, or the provider's networks (pod_annotations), so that pods get them"
        return CheckResult(_NAME, rule, (_finding(spec, rule, action),))
    if not fabric.tool:
        return CheckResult(_NAME, "not every image has ib_write_bw or torch to try it with", made=False)
    works = [gbit for gbit in fabric.gbit.values() if gbit]
    found = f"{len(works)} of {len(fabric.gbit)} lanes work"
    if works:
        found += f", {min(works):.0f} to {max(works):.0f} Gbit/s each"
    return CheckResult(
        _NAME, f"{found} ({fabric.tool})", tuple(_finding(spec, *problem) for problem in problems(fabric))
    )


def _finding(spec: DeploymentSpec, rule: str, action: str) -> Finding:
    return Finding(field="hardware", value=spec.hardware.name, rule=rule, suggestion=action, severity="warning")


def _started(api: Api, options: ClusterOptions, job: str, count: int, say: Callable[[str], None]) -> list[Json]:
    """The Job's pods, in the order of their index, once all of them run."""
    began, shown = time.monotonic(), -1
    while True:
        query = {"labelSelector": f"batch.kubernetes.io/job-name={job}"}
        pods, _ = api.list(collection("v1", "Pod", options.namespace), query)
        running = [pod for pod in pods if _runs(pod)]
        if len(running) == count:
            return sorted(running, key=lambda pod: int(_index(pod)))
        if len(running) != shown:
            shown = len(running)
            say(f"network: {shown} of {count} pods run")
        for pod in pods:
            _refuse_stuck(api, options, pod)
        if time.monotonic() - began > _STARTS_S:
            raise TargetError(f"{len(running)} of {count} pods of Job {job} ran after {_STARTS_S:.0f} s")
        time.sleep(_POLL_S)


def _runs(pod: Json) -> bool:
    statuses = pod.get("status", {}).get("containerStatuses") or ()
    return bool(pod.get("status", {}).get("podIP") and statuses and "running" in (statuses[0].get("state") or {}))


def _index(pod: Json) -> str:
    key = "batch.kubernetes.io/job-completion-index"
    metadata = pod["metadata"]
    return str((metadata.get("labels") or {}).get(key) or (metadata.get("annotations") or {}).get(key) or 0)


def _refuse_stuck(api: Api, options: ClusterOptions, pod: Json) -> None:
    if pod.get("status", {}).get("phase") == "Failed":
        raise TargetError(f"pod {pod['metadata']['name']} ended: {pod['status'].get('message') or 'see its log'}")
    if _runs(pod):
        return
    now = datetime.now(UTC)
    query = {"fieldSelector": f"involvedObject.name={pod['metadata']['name']}"}
    events, _ = api.list(collection("v1", "Event", options.namespace), query)
    failure = start_failure(pod["metadata"]["name"], pod, events, pending_s(pod, now), now=now)
    if failure is not None:
        raise TargetError(str(failure))
