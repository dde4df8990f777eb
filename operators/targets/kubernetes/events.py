"""Facts from events. The API server keeps them for an hour, so an old one may no longer hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from wideloop.operators.targets.kubernetes.pods import parse_time

Json = dict[str, Any]

#: Events of a pod that follow only once its volumes, devices and network are there.
_BEGINS = ("Pulling", "Pulled", "Created", "Started")
#: Reasons of warnings that say nothing about a pod's start: its scheduling and its image have states of their own, and
#: probes and back-offs concern containers that have started.
_ELSEWHERE = (
    "FailedScheduling",
    "Failed",
    "BackOff",
    "Unhealthy",
    "Preempted",
    "NodeNotReady",
    "FailedToRetrieveImage",
)
#: A node tries to mount again at least every 122 s; this long after its last complaint it has succeeded.
_STILL_S = 180.0
#: A node reports the same complaint 25 times, then once in five minutes.
_STILL_AFTER_MANY_S = 360.0
_MANY = 20
#: Grove's reason differs from that of Kubernetes' own controllers, and changed between its versions.
_REFUSED = ("FailedCreate", "PodCreationFailed", "PodCreateFailed")
_REFUSALS = ("exceeded quota", "forbidden")


def happened(event: Json) -> str:
    """When an event last happened; the times of the API server sort as text."""
    series = (event.get("series") or {}).get("lastObservedTime")
    return str(series or event.get("lastTimestamp") or event.get("eventTime") or event["metadata"]["creationTimestamp"])


def about_one(events: Iterable[Json], name: str) -> list[Json]:
    """The events about the object called ``name``."""
    return [e for e in events if e.get("involvedObject", {}).get("name") == name]


def last(events: Sequence[Json], *reasons: str) -> str:
    """The last message with one of these reasons; empty when there is none. Events are oldest first."""
    return next((str(e.get("message") or "") for e in reversed(events) if e.get("reason") in reasons), "")


def complaint(events: Iterable[Json], now: datetime) -> Json | None:
    """What a node last complained of while it made a pod's containers, whatever the reason; None once they are made."""
    by_time = sorted(events, key=happened)
    complaints = [e for e in by_time if _complains(e)]
    if not complaints:
        return None
    newest = complaints[-1]
    still_s = _STILL_AFTER_MANY_S if int(newest.get("count") or 1) >= _MANY else _STILL_S
    if (now - parse_time(happened(newest))).total_seconds() > still_s:
        return None
    begun = any(e.get("reason") in _BEGINS and happened(e) >= happened(newest) for e in by_time)
    return None if begun else newest


def _complains(event: Json) -> bool:
    reason = str(event.get("reason") or "")
    if reason in _ELSEWHERE:
        return False
    return event.get("type") == "Warning" or reason.startswith("Failed") or reason.endswith("NotReady")


def pods_refused(events: Sequence[Json]) -> str:
    """Why the API server has refused to make pods, as their controller reports it; empty when no event tells."""
    for event in reversed(events):
        message = str(event.get("message") or "")
        if event.get("reason") in _REFUSED:
            return message
        if event.get("type") == "Warning" and any(word in message for word in _REFUSALS):
            return message
    return ""
