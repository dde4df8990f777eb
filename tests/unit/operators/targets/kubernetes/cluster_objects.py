"""Objects as an API server returns them, with what the tests look at."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from wideloop.manifests.kubernetes.labels import labels
from wideloop.operators.targets.dynamo.platform import DynamoPlatform
from wideloop.operators.targets.kubernetes.view import View

Json = dict[str, Any]

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
NAME = "baseline-1"
DYNAMO = DynamoPlatform()
_uids = itertools.count()


def at(seconds_ago: float) -> str:
    return (NOW - timedelta(seconds=seconds_ago)).strftime("%Y-%m-%dT%H:%M:%SZ")


def metadata(name: str, age: float, **more: Any) -> Json:
    return {"name": name, "uid": f"uid-{next(_uids)}", "creationTimestamp": at(age), "namespace": "ns", **more}


def graph(*, age: float = 10, ready: bool = False, up_for: float = 1, **more: Any) -> Json:
    conditions = [{"type": "Ready", "status": str(ready), "reason": "pods_not_ready", "message": "waiting"}]
    conditions[0]["lastTransitionTime"] = at(up_for)
    return {
        "apiVersion": "nvidia.com/v1beta1",
        "kind": "DynamoGraphDeployment",
        "metadata": metadata(NAME, age, labels=labels(NAME), generation=1, **more),
        "status": {"observedGeneration": 1, "conditions": conditions},
    }


def pod(
    component: str = "decode",
    *,
    name: str = "",
    age: float = 10,
    state: Json | None = None,
    last: Json | None = None,
    restarts: int = 0,
    conditions: Sequence[Json] = (),
    phase: str = "Pending",
    marks: Json | None = None,
    **more: Any,
) -> Json:
    status = {"name": "main", "restartCount": restarts, "state": state or {}}
    if last:
        status["lastState"] = {"terminated": last}
    return {
        "metadata": metadata(
            name or f"{NAME}-{component}-abc", age, labels=labels(NAME, component=component) | (marks or {}), **more
        ),
        "spec": {"nodeName": "node-1", "containers": [{"name": "main", "resources": {"limits": {"memory": "64Gi"}}}]},
        "status": {"phase": phase, "conditions": list(conditions), "containerStatuses": [status] if state else []},
    }


def running_pod(component: str = "decode", *, ready_for: float = 10**5, **more: Any) -> Json:
    ready: list[Json] = [{"type": "PodScheduled", "status": "True"}]
    ready += [{"type": "Ready", "status": "True", "lastTransitionTime": at(ready_for)}]
    return pod(component, state={"running": {}}, phase="Running", conditions=ready, **more)


def waiting_pod(reason: str, message: str = "", **more: Any) -> Json:
    scheduled = [{"type": "PodScheduled", "status": "True"}]
    more.setdefault("component", "decode")
    return pod(state={"waiting": {"reason": reason, "message": message}}, conditions=scheduled, **more)


def unscheduled_pod(message: str, *, since: float, reason: str = "Unschedulable", **more: Any) -> Json:
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": reason,
        "message": message,
        "lastTransitionTime": at(since),
    }
    return pod(conditions=[condition], age=since, **more)


def exited(code: int, reason: str = "Error") -> Json:
    return {"exitCode": code, "reason": reason}


def event(about: str, reason: str, message: str, *, ago: float = 1, kind: str = "Normal") -> Json:
    return {
        "involvedObject": {"name": about},
        "type": kind,
        "reason": reason,
        "message": message,
        "lastTimestamp": at(ago),
    }


def view(*pods: Json, of: Json | None = None, events: Sequence[Json] | None = None, jobs: Sequence[Json] = ()) -> View:
    """One whose files are served, unless ``pods`` has a pod that does, or does not."""
    served = () if any("files" in p["metadata"]["labels"].values() for p in pods) else (running_pod("files"),)
    return View(NAME, of or graph(age=300), [*pods, *served], jobs, events, NOW, platform=DYNAMO)
