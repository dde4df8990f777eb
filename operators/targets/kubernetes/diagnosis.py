"""Why a deployment will not come up, or has died: read off its pods and events before anyone waits in vain."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from wideloop.manifests.diagnosis import Diagnosis
from wideloop.manifests.engines.base import Engine
from wideloop.manifests.kubernetes.jobs import FILES
from wideloop.operators.targets.kubernetes import causes, ends
from wideloop.operators.targets.kubernetes.ends import ReadLog
from wideloop.operators.targets.kubernetes.events import about_one, last, pods_refused, unmounted
from wideloop.operators.targets.kubernetes.pods import (
    age_s,
    has_ended,
    leaving,
    overdue_s,
    parse_time,
    refused_by_node,
    role,
    scheduled,
    silent_since,
    waiting,
)
from wideloop.operators.targets.kubernetes.view import View

Json = dict[str, Any]

#: Seconds a condition may last that often passes by itself: nodes being added, claims being bound, registries away.
GRACE_S = 60.0
#: Seconds for what takes minutes where it goes well: pulling from a busy registry, attaching volumes.
LONG_GRACE_S = 180.0


def diagnose(view: View, serving: Engine, roles: Collection[str], read_log: ReadLog) -> Diagnosis | None:
    """What is wrong with a deployment for good; None while it may still come up. One that says why wins.

    Args:
        roles: that must have pods.
    """
    found: Diagnosis | None = None
    for diagnosis in _all(view, serving, roles, read_log):
        if diagnosis.kind != "crashed":
            return diagnosis
        found = found or diagnosis
    return found


def diagnose_client(view: View, client: str) -> Diagnosis | None:
    """Why the pod of a client will never run, or is never made."""
    job, pods = view.client_job(client), view.client_pods(client)
    if job is not None and not pods and age_s(job, view.now) >= GRACE_S:
        refused = pods_refused(about_one(view.events or (), job["metadata"]["name"]))
        return causes.no_pods(client, refused, {}) if refused else None
    found = (diagnosis for pod in pods if (diagnosis := _stuck(view, client, pod)) is not None)
    return next(found, None)


def client_looks_stuck(view: View, client: str) -> bool:
    """Whether a client takes so long to begin that events should be asked for the reason."""
    job, pods = view.client_job(client), view.client_pods(client)
    if job is None or age_s(job, view.now) < GRACE_S:
        return False
    return not pods or any(_pending(p) for p in pods)


def looks_stuck(view: View, roles: Collection[str]) -> bool:
    """Whether something takes so long that events should be asked for the reason."""
    if view.graph is None or view.age_s < GRACE_S:
        return False
    serves = view.files_pod is not None and not has_ended(view.files_pod) and not _pending(view.files_pod)
    return any(map(_pending, view.engine_pods)) or bool(_podless(view, roles) or view.silent_pods) or not serves


def _pending(pod: Json) -> bool:
    return bool(pod.get("status", {}).get("phase", "Pending") == "Pending")


def _podless(view: View, roles: Collection[str]) -> list[str]:
    """The roles that have no pod."""
    return sorted(set(roles) - {role(p) or "" for p in view.engine_pods})


def _all(view: View, serving: Engine, roles: Collection[str], read_log: ReadLog) -> Iterator[Diagnosis]:
    for pod in view.engine_pods:
        diagnosis = _stuck(view, role(pod) or "?", pod)
        if diagnosis is not None:
            yield diagnosis
    yield from ends.fatal(view, serving, read_log)
    for pod in (*view.engine_pods, *view.leaving_pods):
        diagnosis = _lost(view, role(pod) or "?", pod)
        if diagnosis is not None:
            yield diagnosis
    if view.files_pod is not None and not view.ready_record:
        diagnosis = _stuck(view, FILES, view.files_pod)
        if diagnosis is not None:
            yield diagnosis
    for missing in _podless(view, roles):
        diagnosis = _no_pods(view, missing)
        if diagnosis is not None:
            yield diagnosis


def _stuck(view: View, component: str, pod: Json) -> Diagnosis | None:
    """Why a pod's containers do not start."""
    condition = scheduled(pod)
    if condition.get("status") == "False":
        since = parse_time(condition.get("lastTransitionTime") or pod["metadata"]["creationTimestamp"])
        if (view.now - since).total_seconds() < GRACE_S or _grows(view, pod):
            return None
        return causes.unschedulable(component, condition)
    wait = waiting(pod)
    if wait:
        diagnosis = causes.not_started(component, wait, patient=age_s(pod, view.now) < LONG_GRACE_S)
        if diagnosis is not None:
            return diagnosis
    if wait and age_s(pod, view.now) >= GRACE_S:
        return causes.not_mounted(component, unmounted(_about(view, pod), view.now))
    return None


def _lost(view: View, component: str, pod: Json) -> Diagnosis | None:
    """Whether a pod is lost with its node, or would not end there."""
    if refused_by_node(pod):
        return None if view.available or _replaced(view, pod) else causes.refused_by_node(component, pod)
    if leaving(pod) and view.available:
        return None  # Another pod has taken its place.
    wrong = view.nodes.get(pod["spec"].get("nodeName") or "")
    since, overdue = silent_since(pod), overdue_s(pod, view.now)
    if wrong and (overdue >= GRACE_S or _passed(view, since) >= GRACE_S):
        return causes.node_lost(component, pod, wrong, since or pod["metadata"]["deletionTimestamp"])
    if wrong == "" and overdue >= LONG_GRACE_S:
        return causes.does_not_end(component, pod, pod["metadata"]["deletionTimestamp"])
    return None


def _replaced(view: View, pod: Json) -> bool:
    """Whether another pod of its component has come since: what refused one may take the next."""
    made = pod["metadata"]["creationTimestamp"]
    later = (p for p in view.engine_pods if p is not pod and p["metadata"]["creationTimestamp"] >= made)
    return any(role(p) == role(pod) and not has_ended(p) for p in later)


def _passed(view: View, since: str | None) -> float:
    return (view.now - parse_time(since)).total_seconds() if since else 0.0


def _no_pods(view: View, component: str) -> Diagnosis | None:
    """Why a component has no pod, when that is not only so for the moment in which one replaces another."""
    if view.graph is None or view.age_s < GRACE_S or view.events is None:
        return None
    refused = pods_refused(view.events)
    if not refused and (view.engine_pods or view.ready_record):
        return None
    return causes.no_pods(component, refused, view.graph)


def _about(view: View, pod: Json) -> list[Json]:
    """The events about a pod, oldest first."""
    return about_one(view.events or (), pod["metadata"]["name"])


def _grows(view: View, pod: Json) -> bool:
    """Whether an autoscaler has said that it adds nodes for a pod."""
    return bool(last(_about(view, pod), "TriggeredScaleUp", "Nominated"))
