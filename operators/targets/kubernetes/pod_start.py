"""Why a pod does not start, decided the same way for engines, clients and the Jobs of tasks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from wideloop.manifests.diagnosis import Diagnosis
from wideloop.operators.targets.kubernetes import pod_diagnoses
from wideloop.operators.targets.kubernetes.events import last, pods_refused, unmounted
from wideloop.operators.targets.kubernetes.pods import age_s, parse_time, scheduled, waiting

Json = dict[str, Any]

#: Seconds that a condition may last which often passes by itself: nodes being added, claims being bound.
GRACE_S = 60.0
#: Seconds for what takes minutes even when it works: pulling from a busy registry, attaching volumes.
LONG_GRACE_S = 180.0
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
        if waited_s < GRACE_S or last(events, *_NODE_IS_ADDED):
            return None
        return pod_diagnoses.unschedulable(component, condition)
    wait = waiting(pod)
    if not wait:
        return None
    diagnosis = pod_diagnoses.not_started(component, wait, patient=waited_s < LONG_GRACE_S)
    if diagnosis is not None or waited_s < GRACE_S:
        return diagnosis
    return pod_diagnoses.not_mounted(component, unmounted(events, now or datetime.now(UTC)))


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
