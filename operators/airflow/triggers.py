"""The trigger of a deferred wait. Airflow stores it by its module path, so neither that nor the name may change."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent


class TargetTrigger(BaseTrigger):
    """Fires when a deployment has left ``pending`` or, given a ``client``, when that has left ``running``.

    Carries names only: specs, logs and results stay on the target.
    """

    def __init__(self, target: str, deployment: str, client: str | None = None, since: float | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.target = target
        self.deployment = deployment
        self.client = client
        #: When the wait began, seconds since the epoch; what an earlier version stored has none.
        self.since = time.time() if since is None else since
        self._logged = ""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        names = {"target": self.target, "deployment": self.deployment, "client": self.client, "since": self.since}
        return f"{type(self).__module__}.{type(self).__qualname__}", names

    async def run(self) -> AsyncIterator[TriggerEvent]:
        from wideloop.operators.targets import open_target

        target = await asyncio.to_thread(open_target, self.target)
        while await asyncio.to_thread(self._is_waiting_or_unreachable):
            await target.changed(self.deployment, self.client)
        yield TriggerEvent({"deployment": self.deployment})  # type: ignore[no-untyped-call]

    def _is_waiting_or_unreachable(self) -> bool:
        """Whether to keep waiting; an API server that cannot be reached does not end the wait."""
        from wideloop.manifests.errors import ApiUnreachable

        try:
            return self.is_waiting()
        except ApiUnreachable as error:
            self.log.warning("still waiting for %s: %s", self.deployment, error)
            return True

    def is_waiting(self) -> bool:
        """Whether the deployment is still pending or, given a client, whether that still runs."""
        from wideloop.operators.targets import open_target

        target = open_target(self.target)
        status = target.status(self.deployment)
        if self.client is None:
            self._log_change(f"{self.deployment} is {status.state}", status.reason)
            return status.state == "pending"
        client = target.client_status(self.deployment, self.client)
        self._log_change(f"{self.deployment} is {status.state}, its load generator {client.state}", status.reason)
        return status.state != "failed" and client.state == "running"

    def _log_change(self, state: str, reason: str) -> None:
        """One line for each change of what is waited for, and none while nothing changes."""
        line = f"{state}: {reason}" if reason else state
        if line != self._logged:
            self._logged = line
            self.log.info("%s (after %.0f s)", line, time.time() - self.since)

    async def on_kill(self) -> None:
        """The user ended the task: end the client. The deployment itself is the teardown's business."""
        if self.client is not None:
            from wideloop.operators.targets import open_target

            await asyncio.to_thread(open_target(self.target).stop_client, self.deployment, self.client)
