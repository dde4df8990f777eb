"""What a pod's JSON says about the component that it is."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, NamedTuple

from manifests.kubernetes.labels import COMPONENT

Json = dict[str, Any]

_MAIN = "main"
# A worker on several nodes is a group of pods, of which the leader serves HTTP. LeaderWorkerSet numbers a group's
# pods; with Grove, Dynamo names those of leaders ``...-ldr-<random>`` and those of the others ``...-wkr-<random>``.
_LWS_MEMBER = "leaderworkerset.sigs.k8s.io/worker-index"
_FOLLOWER = re.compile(r"-wkr-[a-z0-9]+$")
_GROUP_INDEX = (
    "leaderworkerset.sigs.k8s.io/group-index",
    "grove.io/podcliquescalinggroup-replica-index",
    "grove.io/podclique-pod-index",
)


class Ended(NamedTuple):
    """How a container last ended. ``code`` is negative for a signal; ``failures`` counts its ends so far."""

    code: int
    reason: str
    failures: int
    running_again: bool


def role(pod: Json) -> str | None:
    """The component that a pod belongs to: ``frontend``, a worker's role, ...; None when it is none of ours."""
    return (pod["metadata"].get("labels") or {}).get(COMPONENT)


def component_pods(pods: Iterable[Json], of_role: str) -> list[Json]:
    """The pods that speak for a role, one per replica, in the replicas' order; those being deleted are gone."""
    found = [p for p in pods if role(p) == of_role and _leads(p) and not leaving(p)]
    return sorted(found, key=lambda p: (_group(p), p["metadata"]["name"]))


def group_of(pods: Iterable[Json], leader: Json) -> list[Json]:
    """The pods of one replica, ``leader`` first: one for each of its nodes."""
    same = [p for p in pods if role(p) == role(leader) and not _leads(p) and not leaving(p)]
    members = [p for p in same if _group(p) == _group(leader)]
    return [leader, *sorted(members, key=lambda p: str(p["metadata"]["name"]))]


def leaving(pod: Json) -> bool:
    """Whether a pod is being deleted."""
    return "deletionTimestamp" in pod["metadata"]


def has_ended(pod: Json) -> bool:
    """Whether a pod is over: its containers ended for good, or its node is gone."""
    return pod.get("status", {}).get("phase") in ("Failed", "Succeeded")


def ready(pod: Json) -> bool:
    """Whether a pod passes its readiness probes."""
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod.get("status", {}).get("conditions") or ())


def ready_since(pod: Json) -> str | None:
    """When a pod began to pass its readiness probes; None when it does not, or nobody says."""
    conditions = pod.get("status", {}).get("conditions") or ()
    passing = (c for c in conditions if c["type"] == "Ready" and c["status"] == "True")
    return next((c.get("lastTransitionTime") for c in passing), None)


def scheduled(pod: Json) -> Json:
    """The condition ``PodScheduled``; empty when the scheduler has not looked at the pod yet."""
    conditions = pod.get("status", {}).get("conditions") or ()
    return next((c for c in conditions if c["type"] == "PodScheduled"), {})


def waiting(pod: Json) -> Json:
    """``reason`` and ``message`` of the first container that waits, but for one that waits for its next start."""
    states = [s.get("state", {}).get("waiting") or {} for s in _statuses(pod)]
    return next((s for s in states if s.get("reason") and s["reason"] != "CrashLoopBackOff"), {})


def ended(pod: Json) -> Ended | None:
    """How the pod's containers last ended; None when none has. A container that did its work does not count."""
    for status in _statuses(pod):
        now = status.get("state", {}).get("terminated")
        last = now or (status.get("lastState") or {}).get("terminated")
        if last is None or (last["exitCode"] == 0 and (status["restartCount"] == 0)):
            continue
        code = int(last["exitCode"])
        again = "running" in status.get("state", {})
        return Ended(
            code=128 - code if code > 128 else code,
            reason=last.get("reason") or "",
            failures=status["restartCount"] + (0 if again else 1),
            running_again=again,
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
    parts = sorted(f"{p['metadata']['uid']}:{restarts(p)}" for p in pods if not leaving(p))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def age_s(thing: Json, now: datetime) -> float:
    """Seconds since an object was made."""
    return (now - parse_time(thing["metadata"]["creationTimestamp"])).total_seconds()


def parse_time(text: str) -> datetime:
    """A time as the API server writes it."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def in_words(pod: Json) -> str:
    """One line: the pod and what it is doing."""
    wait = waiting(pod)
    condition = scheduled(pod)
    if wait:
        said = f"{wait['reason']} {wait.get('message', '')}"
    elif condition.get("status") == "False":
        said = f"{condition.get('reason', 'not scheduled')}: {condition.get('message', '')}"
    elif leaving(pod):
        said = "is being deleted"
    else:
        phase = pod.get("status", {}).get("phase", "Pending")
        said = f"{phase}, {'ready' if ready(pod) else 'not ready yet'}"
    return f"{pod['metadata']['name']}: {said.strip()}"


def _leads(pod: Json) -> bool:
    marks = pod["metadata"].get("labels") or {}
    return marks.get(_LWS_MEMBER, "0") == "0" and not _FOLLOWER.search(pod["metadata"]["name"])


def _group(pod: Json) -> int:
    marks = pod["metadata"].get("labels") or {}
    return next((int(marks[key]) for key in _GROUP_INDEX if str(marks.get(key, "")).isdigit()), 0)


def _statuses(pod: Json) -> Iterator[Json]:
    status = pod.get("status", {})
    yield from status.get("initContainerStatuses") or ()
    yield from status.get("containerStatuses") or ()
