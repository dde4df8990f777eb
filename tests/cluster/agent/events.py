"""Events of pods, as a kubelet records them."""

from __future__ import annotations

import contextlib
import uuid
from typing import Any

from tests.cluster.agent.api import Api, ApiError
from tests.cluster.agent.status import now

Document = dict[str, Any]


class Events:
    """Records events; the same again is counted in place of recorded anew."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._known: dict[tuple[str, str, str], tuple[str, int]] = {}

    async def record(self, pod: Document, kind: str, reason: str, message: str) -> None:
        """``kind`` is Normal or Warning."""
        metadata = pod["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/events"
        name, count = self._known.get(key := (metadata["uid"], reason, message), ("", 0))
        name = name or f"{metadata['name']}.{uuid.uuid4().hex[:16]}"
        self._known[key] = name, count + 1
        with contextlib.suppress(ApiError):  # its namespace is being deleted
            if count:
                await self._api.patch(f"{path}/{name}", {"count": count + 1, "lastTimestamp": now()})
            else:
                await self._api.create(path, _event(pod, name, kind, reason, message))


def _event(pod: Document, name: str, kind: str, reason: str, message: str) -> Document:
    metadata, moment = pod["metadata"], now()
    reference = {"apiVersion": "v1", "kind": "Pod"} | {key: metadata[key] for key in ("name", "namespace", "uid")}
    return {
        "metadata": {"name": name, "namespace": metadata["namespace"]},
        "involvedObject": reference,
        "type": kind,
        "reason": reason,
        "message": message,
        "count": 1,
        "firstTimestamp": moment,
        "lastTimestamp": moment,
        "source": {"component": "kubelet", "host": pod["spec"]["nodeName"]},
    }
