"""Facts from events. The API server keeps them for an hour, so an old one may no longer hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from wideloop.operators.targets.kubernetes.pods import parse_time

Json = dict[str, Any]

_UNMOUNTED = ("FailedMount", "FailedAttachVolume")
#: Events of a pod that follow only once its volumes are mounted.
_MOUNTED = ("Pulling", "Pulled", "Created", "Started")
#: A node tries to mount again at least every 122 s; this long after its last complaint it has succeeded.
_STILL_S = 180.0
#: Grove's reason differs from that of Kubernetes' own controllers, and changed between its versions.
_REFUSED = ("FailedCreate", "PodCreationFailed", "PodCreateFailed")
_REFUSALS = ("exceeded quota", "forbidden")


def happened(event: Json) -> str:
    """When an event last happened; the times of the API server sort as text."""
    return str(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"]["creationTimestamp"])


def about_one(events: Iterable[Json], name: str) -> list[Json]:
    """The events about the object called ``name``."""
    return [e for e in events if e.get("involvedObject", {}).get("name") == name]


def last(events: Sequence[Json], *reasons: str) -> str:
    """The last message with one of these reasons; empty when there is none. Events are oldest first."""
    return next((str(e.get("message") or "") for e in reversed(events) if e.get("reason") in reasons), "")


def unmounted(events: Iterable[Json], now: datetime) -> str:
    """Why the volumes of a pod are still not mounted, by the events about it; empty once they are."""
    by_time = sorted(events, key=happened)
    failed = [e for e in by_time if e.get("reason") in _UNMOUNTED]
    if not failed or (now - parse_time(happened(failed[-1]))).total_seconds() > _STILL_S:
        return ""
    mounted = any(e.get("reason") in _MOUNTED and happened(e) >= happened(failed[-1]) for e in by_time)
    return "" if mounted else str(failed[-1].get("message") or "")


def pods_refused(events: Sequence[Json]) -> str:
    """Why the API server has refused to make pods, as their controller reports it; empty when no event tells."""
    for event in reversed(events):
        message = str(event.get("message") or "")
        if event.get("reason") in _REFUSED:
            return message
        if event.get("type") == "Warning" and any(word in message for word in _REFUSALS):
            return message
    return ""
