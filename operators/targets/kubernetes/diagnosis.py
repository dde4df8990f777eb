"""Why a deployment will not come up, or has failed: read from its pods and events, long before a timeout."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from wideloop.manifests.diagnosis import Diagnosis
from wideloop.manifests.engines.base import Engine
from wideloop.manifests.kubernetes.jobs import FILES
from wideloop.operators.targets.kubernetes import pod_diagnoses, pod_start, terminations
from wideloop.operators.targets.kubernetes import pods as pod_facts
from wideloop.operators.targets.kubernetes.events import about_one
from wideloop.operators.targets.kubernetes.pod_start import creation_failure, pending_s, start_failure
from wideloop.operators.targets.kubernetes.pods import (
    age_s,
    has_ended,
    is_being_deleted,
    overdue_s,
    parse_time,
    refused_by_node,
    role,
    silent_since,
)
from wideloop.operators.targets.kubernetes.terminations import ReadLog
from wideloop.operators.targets.kubernetes.view import View

Json = dict[str, Any]


def diagnose(view: View, engine: Engine, roles: Collection[str], read_log: ReadLog) -> Diagnosis | None:
    """Why a deployment has failed for good; None while it may still come up. An explained failure wins.

    Args:
        roles: that must have pods.
    """
    crash: Diagnosis | None = None
    for diagnosis in _all(view, engine, roles, read_log):
        if diagnosis.kind != "crashed":
            return diagnosis
        crash = crash or diagnosis
    return crash


def diagnose_client(view: View, client: str) -> Diagnosis | None:
    """Why the pod of a client will never run, or is never made."""
    job, pods = view.client_job(client), view.client_pods(client)
    if job is not None and not pods and age_s(job, view.now) >= pod_start.GRACE_S:
        return creation_failure(client, about_one(view.events or (), job["metadata"]["name"]))
    diagnoses = (diagnosis for pod in pods if (diagnosis := _stuck(view, client, pod)) is not None)
    return next(diagnoses, None)


def client_looks_stuck(view: View, client: str) -> bool:
    """Whether a client takes so long to begin that events should be asked for the reason."""
    job, pods = view.client_job(client), view.client_pods(client)
    if job is None or age_s(job, view.now) < pod_start.GRACE_S:
        return False
    return not pods or any(_pending(p) for p in pods)


def looks_stuck(view: View, roles: Collection[str]) -> bool:
    """Whether something takes so long that events should be asked for the reason."""
    if view.root is None or view.age_s < pod_start.GRACE_S:
        return False
    serves = view.files_pod is not None and not has_ended(view.files_pod) and not _pending(view.files_pod)
    return any(map(_pending, view.engine_pods)) or bool(_podless(view, roles) or view.silent_pods) or not serves


def _pending(pod: Json) -> bool:
    return bool(pod.get("status", {}).get("phase", "Pending") == "Pending")


def _podless(view: View, roles: Collection[str]) -> list[str]:
    """The roles that have no pod."""
    return sorted(set(roles) - {role(p) or "" for p in view.engine_pods})


def _all(view: View, engine: Engine, roles: Collection[str], read_log: ReadLog) -> Iterator[Diagnosis]:
    for pod in view.engine_pods:
        diagnosis = _stuck(view, role(pod) or "?", pod)
        if diagnosis is not None:
            yield diagnosis
    yield from terminations.fatal(view, engine, read_log)
    for pod in (*view.engine_pods, *view.deleted_pods):
        diagnosis = _lost(view, role(pod) or "?", pod)
        if diagnosis is not None:
            yield diagnosis
    yield from _disrupted(view)
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
    return start_failure(component, pod, _about(view, pod), pending_s(pod, view.now), now=view.now)


def _lost(view: View, component: str, pod: Json) -> Diagnosis | None:
    """Whether a pod is lost with its node, or would not end there."""
    if refused_by_node(pod):
        return None if view.available or _replaced(view, pod) else pod_diagnoses.refused_by_node(component, pod)
    if is_being_deleted(pod) and view.available:
        return None  # Another pod has taken its place.
    wrong = view.nodes.get(pod["spec"].get("nodeName") or "")
    since, overdue = silent_since(pod), overdue_s(pod, view.now)
    if wrong and (overdue >= pod_start.GRACE_S or _passed(view, since) >= pod_start.GRACE_S):
        return pod_diagnoses.node_lost(component, pod, wrong, since or pod["metadata"]["deletionTimestamp"])
    if wrong == "" and overdue >= pod_start.LONG_GRACE_S:
        return pod_diagnoses.does_not_end(component, pod, pod["metadata"]["deletionTimestamp"])
    return None


def _disrupted(view: View) -> Iterator[Diagnosis]:
    """Pods that were ended from outside after the deployment had served: whatever was measured on them is lost."""
    if not view.ready_record or view.available:
        return
    for pod in (*view.engine_pods, *view.deleted_pods, *view.gone_pods):
        disruption = pod_facts.disruption(pod)
        if disruption is not None:
            yield pod_diagnoses.disrupted(role(pod) or "?", pod, *disruption)


def _replaced(view: View, pod: Json) -> bool:
    """Whether another pod of its component has come since: what refused one may take the next."""
    made = pod["metadata"]["creationTimestamp"]
    later = (p for p in view.engine_pods if p is not pod and p["metadata"]["creationTimestamp"] >= made)
    return any(role(p) == role(pod) and not has_ended(p) for p in later)


def _passed(view: View, since: str | None) -> float:
    return (view.now - parse_time(since)).total_seconds() if since else 0.0


def _no_pods(view: View, component: str) -> Diagnosis | None:
    """Why a component has no pod, when that is not only so for the moment in which one replaces another."""
    if view.root is None or view.age_s < pod_start.GRACE_S or view.events is None:
        return None
    refused = creation_failure(component, view.events)
    if refused is not None or view.engine_pods or view.ready_record:
        return refused
    return pod_diagnoses.no_pods(component, view.root, view.platform)


def _about(view: View, pod: Json) -> list[Json]:
    """The events about a pod, oldest first."""
    return about_one(view.events or (), pod["metadata"]["name"])
