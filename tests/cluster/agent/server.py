"""The part of a kubelet's HTTPS endpoint that the API server asks for pods' logs."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aiohttp import web

from tests.cluster.agent.pod import HOST_IP, PodRun

_POLL_S = 0.1


class LogServer:
    """Serves the logs of ``find(namespace, pod)`` on a free port of this machine."""

    def __init__(self, certificate: Path, key: Path, find: Callable[[str, str], PodRun | None]) -> None:
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(certificate, key)
        self._find = find

    async def start(self) -> int:
        """Start; the port."""
        application = web.Application()
        application.router.add_get("/containerLogs/{namespace}/{pod}/{container}", self._logs)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, HOST_IP, 0, ssl_context=self._context)
        await site.start()
        address: tuple[str, int] = self._runner.addresses[0]
        return address[1]

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        names, query = request.match_info, request.query
        pod = self._find(names["namespace"], names["pod"])
        states = [] if pod is None else [*pod.states, *pod.init_states]
        state = next((one for one in states if one.name == names["container"]), None)
        if pod is None or state is None:
            raise web.HTTPNotFound(text=f"container {names['container']} of pod {names['pod']} is not here")
        previous = query.get("previous") == "true"
        if previous and not state.restarts:
            raise web.HTTPBadRequest(text=f'previous terminated container "{state.name}" in pod "{pod.name}" not found')
        path = pod.log(state.name, state.restarts - previous)
        if not path.exists():
            reason = state.state.get("waiting", {}).get("reason", "")
            text = f'container "{state.name}" in pod "{pod.name}" is waiting to start: {reason}'
            raise web.HTTPBadRequest(text=text)
        answer = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await answer.prepare(request)
        with path.open("rb") as log:
            for line in _chosen(log.readlines(), query.get("tailLines"), query.get("sinceSeconds")):
                await answer.write(_shown(line, query.get("timestamps") == "true"))
            rest = b""
            while query.get("follow") == "true":
                ended = state.name not in pod.runs
                *lines, rest = (rest + log.read()).split(b"\n")
                for line in lines:
                    await answer.write(_shown(line + b"\n", query.get("timestamps") == "true"))
                if ended:
                    break
                await asyncio.sleep(_POLL_S)
        return answer


def _chosen(lines: list[bytes], tail: str | None, since_s: str | None) -> list[bytes]:
    if since_s:
        first = (datetime.now(UTC) - timedelta(seconds=int(since_s))).strftime("%Y-%m-%dT%H:%M:%S").encode()
        lines = [line for line in lines if line >= first]
    return lines if tail is None else lines[len(lines) - min(int(tail), len(lines)) :]


def _shown(line: bytes, timestamps: bool) -> bytes:
    return line if timestamps else line.partition(b" ")[2]
