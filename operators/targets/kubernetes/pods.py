"""Facts about a component, read from the JSON of its pod."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from wideloop.manifests.kubernetes.labels import COMPONENT

Json = dict[str, Any]

_MAIN = "main"
#: What a pod that does not serve yet may be doing, in this order; see :func:`start_step`.
START_STEPS = ("not scheduled", "pulling or creating", "loading")
#: Reason of the condition of pods that are deleted because their node does not answer.
_TAINTED = "DeletionByTaintManager"


class Ended(NamedTuple):
    """How a container last ended by itself.

    Attributes:
        code: its exit status, negative for a signal.
        failures: its ends in this pod so far.
        running_again: the run that ended is the last but one.
        message: the end of its log as the node kept it, at most 2 KiB; empty when it did not.
        at: when, as the API server writes it; empty when unknown.
    """

    code: int
    reason: str
    failures: int
    running_again: bool
    message: str = ""
    at: str = ""


def role(pod: Json) -> str | None:
    """The component that a pod belongs to: ``frontend``, a worker's role, ...; None when it has none."""
    return (pod["metadata"].get("labels") or {}).get(COMPONENT)


def is_being_deleted(pod: Json) -> bool:
    """Whether a pod is being deleted."""
    return "deletionTimestamp" in pod["metadata"]


def has_ended(pod: Json) -> bool:
    """Whether a pod is over: its containers ended for good, or its node is gone."""
    return pod.get("status", {}).get("phase") in ("Failed", "Succeeded")


def ready(pod: Json) -> bool:
    """Whether a pod passes its readiness probes."""
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod.get("status", {}).get("conditions") or ())


def ready_since(pod: Json) -> str | None:
    """When a pod began to pass its readiness probes; None when it does not, or the time is unknown."""
    conditions = pod.get("status", {}).get("conditions") or ()
    passing = (c for c in conditions if c["type"] == "Ready" and c["status"] == "True")
    return next((c.get("lastTransitionTime") for c in passing), None)


def silent_since(pod: Json) -> str | None:
    """When the node of a pod was last heard of, going by the pod; None when nothing says that it is silent.

    What others say in its place: Kubernetes' node controllers take a pod's readiness while its containers keep theirs,
    and order its deletion later, which no node carries out.
    """
    status = pod.get("status", {})
    conditions = {c["type"]: c for c in status.get("conditions") or ()}
    disrupted, passing = conditions.get("DisruptionTarget", {}), conditions.get("Ready", {})
    if disrupted.get("status") == "True" and disrupted.get("reason") == _TAINTED:
        return str(disrupted["lastTransitionTime"])
    containers = status.get("containerStatuses") or ()
    if passing.get("status") == "False" and not passing.get("reason") and containers:
        return str(passing["lastTransitionTime"]) if all(c.get("ready") for c in containers) else None
    return None


def overdue_s(pod: Json, now: datetime) -> float:
    """Seconds since a pod that is being deleted should have been gone; negative when it has time, or is not."""
    return (now - parse_time(pod["metadata"]["deletionTimestamp"])).total_seconds() if is_being_deleted(pod) else -1.0


def refused_by_node(pod: Json) -> bool:
    """Whether a node would not start a pod that was bound to it, or threw it out."""
    status = pod.get("status", {})
    return bool(status.get("phase") == "Failed" and status.get("reason"))


def scheduled(pod: Json) -> Json:
    """The condition ``PodScheduled``; empty when the scheduler has not looked at the pod yet."""
    conditions = pod.get("status", {}).get("conditions") or ()
    return next((c for c in conditions if c["type"] == "PodScheduled"), {})


def scheduling_gates(pod: Json) -> tuple[str, ...]:
    """The gates that hold a pod back from scheduling; ``unknown`` where the pod does not name them."""
    names = tuple(str(gate.get("name")) for gate in pod.get("spec", {}).get("schedulingGates") or ())
    return names or (("unknown",) if scheduled(pod).get("reason") == "SchedulingGated" else ())


def disruption(pod: Json) -> tuple[str, str] | None:
    """Reason and message where something outside of a pod ends it: a drain, a preemption, its node's shutdown."""
    conditions = pod.get("status", {}).get("conditions") or ()
    targets = (c for c in conditions if c["type"] == "DisruptionTarget" and c["status"] == "True")
    return next(((str(c.get("reason") or ""), str(c.get("message") or "")) for c in targets), None)


def waiting(pod: Json) -> Json:
    """``reason`` and ``message`` of the first container that waits, but for one that waits for its next start."""
    states = [s.get("state", {}).get("waiting") or {} for s in _statuses(pod)]
    return next((s for s in states if s.get("reason") and s["reason"] != "CrashLoopBackOff"), {})


def ended(pod: Json) -> Ended | None:
    """How the pod's containers last ended by themselves; None when none has.

    A container that did its work does not count, and none that was ended because its pod is being deleted.
    """
    for status in _statuses(pod):
        state = status.get("state", {})
        now = state.get("terminated")
        if now and is_being_deleted(pod) and not _before_deletion(now, pod):
            now = None
        last = now or (status.get("lastState") or {}).get("terminated")
        if last is None or (last["exitCode"] == 0 and (status["restartCount"] == 0)):
            continue
        code = int(last["exitCode"])
        again = now is None and "waiting" not in state
        return Ended(
            code=128 - code if code > 128 else code,
            reason=last.get("reason") or "",
            failures=status["restartCount"] + (0 if again else 1),
            running_again=again,
            message=last.get("message") or "",
            at=last.get("finishedAt") or "",
        )
    return None


def main_exit_code(pod: Json) -> int | None:
    """Exit status of the main container, negative for a signal; None while it runs."""
    for status in pod.get("status", {}).get("containerStatuses") or ():
        done = status.get("state", {}).get("terminated")
        if status["name"] == _MAIN and done:
            code = int(done["exitCode"])
            return 128 - code if code > 128 else code
    return None


def restarts(pod: Json) -> int:
    """How often containers of the pod were started again."""
    return sum(s.get("restartCount", 0) for s in _statuses(pod))


def signature(pods: Iterable[Json]) -> str:
    """Differs once any of ``pods`` was replaced or restarted."""
    parts = sorted(f"{p['metadata']['uid']}:{restarts(p)}" for p in pods if not is_being_deleted(p))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def age_s(thing: Json, now: datetime) -> float:
    """Seconds since an object was made."""
    return (now - parse_time(thing["metadata"]["creationTimestamp"])).total_seconds()


def parse_time(text: str) -> datetime:
    """A time as the API server writes it."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def start_step(pod: Json) -> str:
    """How far a pod has come on its way to serve; its container runs for as long as the engine loads."""
    if ready(pod):
        return "ready"
    if "nodeName" not in pod.get("spec", {}):
        return "not scheduled"
    containers = pod.get("status", {}).get("containerStatuses") or ()
    return "loading" if any("running" in (s.get("state") or {}) for s in containers) else "pulling or creating"


def in_words(pod: Json) -> str:
    """One line: the pod and what it is doing."""
    wait = waiting(pod)
    condition = scheduled(pod)
    if wait:
        state = f"{wait['reason']} {wait.get('message', '')}"
    elif condition.get("status") == "False":
        gates = scheduling_gates(pod)
        message = f"waits for {', '.join(gates)}" if gates else condition.get("message", "")
        state = f"{condition.get('reason', 'not scheduled')}: {message}"
    elif is_being_deleted(pod):
        state = "is being deleted"
    else:
        phase = pod.get("status", {}).get("phase", "Pending")
        state = f"{phase}, {'ready' if ready(pod) else 'not ready yet'}"
    return f"{pod['metadata']['name']}: {state.strip()}"


def _before_deletion(terminated: Json, pod: Json) -> bool:
    """Whether a container ended before the deletion of its pod was asked for; times have whole seconds."""
    if "finishedAt" not in terminated:
        return False
    grace = timedelta(seconds=pod["metadata"].get("deletionGracePeriodSeconds") or 0)
    return parse_time(terminated["finishedAt"]) < parse_time(pod["metadata"]["deletionTimestamp"]) - grace


def _statuses(pod: Json) -> Iterator[Json]:
    status = pod.get("status", {})
    yield from status.get("initContainerStatuses") or ()
    yield from status.get("containerStatuses") or ()
