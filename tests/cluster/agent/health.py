"""What a container's probes make of it: started, ready, restarted."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable
from typing import Any

from tests.cluster.agent import probes
from tests.cluster.agent.container import Run
from tests.cluster.agent.status import ContainerState

Document = dict[str, Any]
#: ``await record(pod, type, reason, message)`` records an event.
Record = Callable[[Document, str, str, str], Awaitable[None]]


class Health:
    """The probes of one run of one container; ``changed`` is called when its state has changed."""

    def __init__(self, pod: Document, record: Record, changed: Callable[[], None]) -> None:
        self._pod = pod
        self._record = record
        self._changed = changed
        self._ending: list[asyncio.Task[None]] = []

    async def watch(self, spec: Document, state: ContainerState, run: Run, address: str) -> None:
        """Start-up probe first, then liveness and readiness for as long as this is not cancelled."""
        if "startupProbe" in spec:
            passed = asyncio.Event()

            def start_up(good: bool) -> None:
                if good:
                    passed.set()

            task = asyncio.create_task(self._loop("startup", spec, run, address, start_up))
            try:
                await passed.wait()
            finally:
                task.cancel()
        state.started = True
        state.ready = "readinessProbe" not in spec
        self._changed()

        def readiness(good: bool) -> None:
            state.ready = good
            self._changed()

        hears: dict[str, Callable[[bool], object]] = {"liveness": lambda good: None, "readiness": readiness}
        kinds = [kind for kind in hears if f"{kind}Probe" in spec]
        await asyncio.gather(*(self._loop(kind, spec, run, address, hears[kind]) for kind in kinds))

    async def _loop(self, kind: str, spec: Document, run: Run, address: str, hear: Callable[[bool], object]) -> None:
        """One probe; failing start-up and liveness probes end the container."""

        def result(good: bool, text: str) -> None:
            hear(good)
            if not good:
                self._ending.append(asyncio.create_task(self._unhealthy(kind, text, spec, run)))

        # What comes up is seen at once: the probes of real engines look every 10 s, which here only makes tests wait.
        await probes.loop(spec[f"{kind}Probe"], spec, address, run, result, hurried=kind != "liveness")

    async def _unhealthy(self, kind: str, text: str, spec: Document, run: Run) -> None:
        await self._record(self._pod, "Warning", "Unhealthy", f"{kind.capitalize()} probe failed: {text}")
        if kind == "readiness":
            return
        killing = f"Container {spec['name']} failed {kind} probe, will be restarted"
        await self._record(self._pod, "Normal", "Killing", killing)
        run.kill(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(run.ended.wait(), self._pod["spec"].get("terminationGracePeriodSeconds", 30))
        run.kill()
