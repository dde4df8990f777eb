"""Probes of a container: HTTP, TCP and commands."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import aiohttp

from tests.cluster.agent.container import Run

Document = dict[str, Any]


async def loop(
    probe: Document,
    container: Document,
    address: str,
    run: Run,
    result: Callable[[bool, str], None],
    *,
    hurried: bool = False,
) -> None:
    """Probe for ever; ``result`` hears of each change over a threshold, with what the last attempt said.

    ``hurried``: every second, whatever the probe's period; failures still last as long before they count.

    The first success and, for a probe that has not succeeded yet, each time the failures reach the threshold count
    as changes.
    """
    await asyncio.sleep(probe.get("initialDelaySeconds", 0))
    state: bool | None = None
    good = bad = 0
    period, failures = probe.get("periodSeconds", 10), probe.get("failureThreshold", 3)
    if hurried:
        period, failures = 1, failures * period
    while True:
        success, text = await attempt(probe, container, address, run)
        good, bad = (good + 1, 0) if success else (0, bad + 1)
        if state is not True and good >= probe.get("successThreshold", 1):
            state = True
            result(True, "")
        if state is not False and bad >= failures:
            state = False
            result(False, text)
        await asyncio.sleep(period)


async def attempt(probe: Document, container: Document, address: str, run: Run) -> tuple[bool, str]:
    """Whether one attempt succeeds, and if not what a kubelet would say."""
    timeout_s = float(probe.get("timeoutSeconds", 1))
    if "exec" in probe:
        code = await run.execute(probe["exec"]["command"], timeout_s)
        return code == 0, f"command exited with {code}"
    if "tcpSocket" in probe:
        port = _port(probe["tcpSocket"]["port"], container)
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection(address, port), timeout_s)
        except (OSError, TimeoutError) as error:
            return False, f"dial tcp {address}:{port}: {error}"
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return True, ""
    if "httpGet" in probe:
        return await _http(probe["httpGet"], container, address, timeout_s)
    return False, f"probe of a kind that is not offered here: {sorted(probe)}"


async def _http(action: Document, container: Document, address: str, timeout_s: float) -> tuple[bool, str]:
    port, path = _port(action["port"], container), action.get("path", "/")
    url = f"{action.get('scheme', 'HTTP').lower()}://{action.get('host') or address}:{port}{path}"
    headers = {header["name"]: header["value"] for header in action.get("httpHeaders", ())}
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(url, headers=headers, ssl=False, allow_redirects=False) as answer,
        ):
            return 200 <= answer.status < 400, f"HTTP probe failed with statuscode: {answer.status}"
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        return False, f'Get "{url}": {error or type(error).__name__}'


def _port(port: int | str, container: Document) -> int:
    """A number, or the name of one of the container's ports."""
    if isinstance(port, int):
        return port
    return next(int(one["containerPort"]) for one in container.get("ports", ()) if one.get("name") == port)
