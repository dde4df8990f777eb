"""Dynamo's system server of a worker: probes, metrics, and the routes that its command line configures.

Routes are resolved and called by Dynamo's own code (``dynamo.sglang.engine_routes``); what they call is a stand-in for
SGLang's tokenizer manager with the signatures of 0.5.21 (``srt/managers/tokenizer_control_mixin.py``).
"""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from wideloop.tuning.simulator.control import Control, Reply

_PROBED = ("/live", "/health", "/metrics")


@dataclass
class Flushed:
    """SGLang's ``FlushCacheReqOutput``."""

    success: bool
    message: str = ""


class TokenizerManager:
    """The methods that the product has made routes of."""

    def __init__(self, control: Control) -> None:
        self._control = control

    async def flush_cache(self, timeout_s: float | None = None) -> Flushed:
        status, text = self._control._flush({"timeout": [str(timeout_s or 0)]})
        return Flushed(status == 200, text)

    async def start_expert_distribution_record(self) -> None:
        _expect(self._control._start({}))

    async def stop_expert_distribution_record(self) -> None:
        _expect(self._control._stop({}))

    async def dump_expert_distribution_record(self) -> None:
        _expect(self._control._dump({}))


def _expect(reply: Reply) -> None:
    if reply[0] != 200:
        raise RuntimeError(reply[1])


class SystemServer(Control):
    """In the place of the simulated worker's control server; ``descriptors`` are those of ``--engine-route``."""

    descriptors: tuple[str, ...] = ()

    def serve(self, host: str, port: int) -> ThreadingHTTPServer:
        from dynamo.sglang.engine_routes import resolve_configured_engine_routes

        class Engine:
            tokenizer_manager = TokenizerManager(self)

        self.engine_routes = dict(resolve_configured_engine_routes(Engine(), self.descriptors))
        server = ThreadingHTTPServer((host, port), _handler(self))
        threading.Thread(target=server.serve_forever, name="system", daemon=True).start()
        return server

    def get(self, path: str) -> Reply:
        return self.routes[path]({}) if path in _PROBED else (404, "Not Found\n")

    def post(self, path: str, body: bytes) -> Reply:
        route = self.engine_routes.get(path.removeprefix("/engine/"))
        if route is None or not path.startswith("/engine/"):
            return 404, "Route not found\n"

        async def call() -> dict[str, Any]:
            answer: dict[str, Any] = await route(json.loads(body or b"{}"))
            return answer

        return 200, json.dumps(asyncio.run(call()))


def _handler(system: SystemServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(system.get(self.path))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            try:
                self._answer(system.post(self.path, body))
            except Exception as error:
                self._answer((500, json.dumps({"error": f"{type(error).__name__}: {error}"})))

        def _answer(self, reply: Reply) -> None:
            data = reply[1].encode()
            self.send_response(reply[0])
            self.send_header("Content-Type", "application/json" if reply[1].startswith("{") else "text/plain")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            """Silent: probes come every second."""

    return Handler
