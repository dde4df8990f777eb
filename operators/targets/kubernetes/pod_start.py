"""Why a pod does not start, decided the same way for engines, clients and the Jobs of tasks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from wideloop.manifests.diagnosis import Diagnosis
from wideloop.operators.targets.kubernetes import container_failures, pod_diagnoses, scheduling
from wideloop.operators.targets.kubernetes.events import complaint, last, pods_refused
from wideloop.operators.targets.kubernetes.pods import age_s, parse_time, scheduled, scheduling_gates, waiting

Json = dict[str, Any]

#: Seconds that a condition may last which often passes by itself: nodes being added, claims being bound.
GRACE_S = 60.0
#: Seconds for what is made anew for each pod: its network, its devices.
CREATE_GRACE_S = 120.0
#: Seconds for what takes minutes even when it works: pulling from a busy registry, attaching volumes.
LONG_GRACE_S = 180.0
#: Seconds that a gate may hold a pod back: a queue is meant to be waited for, and gated pods hold no GPU.
GATE_S = 3600.0
#: Events of an autoscaler that adds a node for a pod.
_NODE_IS_ADDED = ("TriggeredScaleUp", "Nominated")


def start_failure(
    component: str, pod: Json, events: Sequence[Json], waited_s: float, *, now: datetime | None = None
) -> Diagnosis | None:
    """What keeps a pod from starting and what to do; None while it may still start.

    Args:
        component: named by the diagnosis.
        events: about the pod, oldest first.
        waited_s: how long the pod has been pending, see :func:`pending_s`.
        now: None: the current time.
    """
    condition = scheduled(pod)
    if condition.get("status") == "False":
        gates = scheduling_gates(pod)
        if waited_s < (GATE_S if gates else GRACE_S) or last(events, *_NODE_IS_ADDED):
            return None
        return scheduling.gated(component, gates) if gates else scheduling.unschedulable(component, condition)
    wait = waiting(pod)
    if wait:
        diagnosis = container_failures.not_started(component, wait, patient=waited_s < LONG_GRACE_S)
        if diagnosis is not None:
            return diagnosis
    elif not _is_bound_and_new(pod):
        return None
    event = complaint(events, now or datetime.now(UTC)) if waited_s >= GRACE_S else None
    if event is None:
        return None
    diagnosis = container_failures.not_created(component, event)
    if diagnosis.kind == "storage_unavailable":
        return diagnosis
    grace_s = LONG_GRACE_S if container_failures.may_pass(diagnosis.message) else CREATE_GRACE_S
    return diagnosis if waited_s >= grace_s else None


def _is_bound_and_new(pod: Json) -> bool:
    """Whether a node has the pod and has not reported a state of any container yet."""
    status = pod.get("status", {})
    bound = scheduled(pod).get("status") == "True"
    return bound and status.get("phase", "Pending") == "Pending" and not status.get("containerStatuses")


def creation_failure(component: str, events: Sequence[Json]) -> Diagnosis | None:
    """Why the API server refuses the pods of a component; None when no event says so.

    A Job or set whose pods are refused tries for ever, and reports it in events only.
    """
    refusal = pods_refused(events)
    return pod_diagnoses.pods_refused(component, refusal) if refusal else None


def pending_s(pod: Json, now: datetime) -> float:
    """Seconds since the scheduler refused a pod, else since the pod was made."""
    condition = scheduled(pod)
    if condition.get("status") == "False" and condition.get("lastTransitionTime"):
        return (now - parse_time(condition["lastTransitionTime"])).total_seconds()
    return age_s(pod, now)
