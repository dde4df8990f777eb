"""Why the pod of a task does not start, as soon as the cluster says so."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from wideloop.manifests.diagnosis import Diagnosis
from wideloop.operators.targets.kubernetes import causes
from wideloop.operators.targets.kubernetes.events import last, pods_refused, unmounted
from wideloop.operators.targets.kubernetes.pods import scheduled, waiting

Json = dict[str, Any]

#: An autoscaler may still add the node, a provisioner still make the volume.
GRACE_S = 60.0
#: A registry that is away may come back; an image that is not there will not.
_LONG_GRACE_S = 180.0


def trouble(
    component: str, pod: Json | None, events: Sequence[Json], waited_s: float, *, now: datetime | None = None
) -> Diagnosis | None:
    """What keeps a pod from starting and what to do; None while it may still start.

    Args:
        component: the task, for the diagnosis.
        pod: the task's, None when its Job has made none yet.
        events: about the pod, or about the Job while there is no pod; oldest first.
        waited_s: how long it has been waited for.
        now: None: the time it is.
    """
    if pod is None:
        # A Job that may not make its pod tries on for ever, and says so in an event.
        refused = pods_refused(events)
        return causes.no_pods(component, refused, {}) if refused else None
    wait = waiting(pod)
    if wait and (found := causes.not_started(component, wait, patient=waited_s < _LONG_GRACE_S)):
        return found
    if waited_s < GRACE_S or last(events, "TriggeredScaleUp"):
        return None
    if wait:
        return causes.not_mounted(component, unmounted(events, now or datetime.now(UTC)))
    condition = scheduled(pod)
    return causes.unschedulable(component, condition) if condition.get("status") == "False" else None
