"""SGLang's own HTTP routes for a simulated worker: flush, expert recorder, metrics, server info.

The mocker has no such routes; bodies and status codes are those of SGLang.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from wideloop.tuning.simulator.counters import Counters
from wideloop.tuning.simulator.plan import WorkerPlan
from wideloop.tuning.simulator.recorder import Recorder

Reply = tuple[int, str]
FLUSH_POLL_S = 0.05
FLUSHED = (
    "Cache flushed.\nPlease check backend logs for more details. "
    "(When there are running or waiting requests, the operation will not be performed.)\n"
)
NO_RECORDER = "Please set ServerArgs.expert_distribution_recorder_mode to use the expert distribution recorder.\n"


class Control:
    """The routes of one worker."""

    def __init__(self, plan: WorkerPlan, counters: Counters, recorder: Recorder) -> None:
        self._plan = plan
        self._counters = counters
        self._recorder = recorder
        self.routes: dict[str, Callable[[dict[str, list[str]]], Reply]] = {
            "/flush_cache": self._flush,
            "/start_expert_distribution_record": self._start,
            "/stop_expert_distribution_record": self._stop,
            "/dump_expert_distribution_record": self._dump,
            "/metrics": self._metrics,
            "/live": self._live,
            "/health": self._health,
            "/server_info": self._server_info,
            "/get_server_info": self._server_info,
        }

    def serve(self, host: str, port: int) -> ThreadingHTTPServer:
        """Answer on ``host:port`` in a thread of its own.

        Raises:
            OSError: the port is taken.
        """
        server = ThreadingHTTPServer((host, port), _handler(self.routes))
        threading.Thread(target=server.serve_forever, name="control", daemon=True).start()
        return server

    def _flush(self, query: dict[str, list[str]]) -> Reply:
        """Prefix caching is off, so an idle worker has nothing cached and a busy one must refuse."""
        deadline = time.monotonic() + float(query.get("timeout", ["0"])[0])
        while self._counters.inflight():
            if time.monotonic() >= deadline:
                return 400, "Flush cache failed.\n"
            time.sleep(FLUSH_POLL_S)
        return 200, FLUSHED

    def _start(self, _query: dict[str, list[str]]) -> Reply:
        return self._record(self._recorder.start, "Start recording the expert distribution.\n")

    def _stop(self, _query: dict[str, list[str]]) -> Reply:
        return self._record(self._recorder.stop, "Stop recording the expert distribution.\n")

    def _dump(self, _query: dict[str, list[str]]) -> Reply:
        return self._record(self._recorder.dump, "Dump expert distribution record.\n")

    def _record(self, action: Callable[[], object], text: str) -> Reply:
        if not self._recorder.enabled:
            return 500, NO_RECORDER
        action()
        return 200, text

    def _live(self, _query: dict[str, list[str]]) -> Reply:
        return 200, "live\n"

    def _health(self, _query: dict[str, list[str]]) -> Reply:
        """Health as Dynamo's own workers report it to probes; the mocker's own health route is never ready."""
        return (200, "ready\n") if self._counters.metrics() else (503, "notready\n")

    def _metrics(self, _query: dict[str, list[str]]) -> Reply:
        memory = self._plan.memory
        gauges = {
            "sglang:max_total_num_tokens": memory.kv_tokens,
            "sglang:weight_memory_usage_gb": memory.weights_gib,
            "sglang:kv_cache_memory_usage_gb": memory.kv_gib,
            "sglang:graph_memory_usage_gb": memory.graphs_gib,
            "sglang:startup_available_gpu_memory_gb": memory.free_at_ready_gib,
        }
        labels = f'{{simulated="true",role="{self._plan.worker.role}"}}'
        own = "".join(f"# TYPE {name} gauge\n{name}{labels} {value}\n" for name, value in gauges.items())
        return 200, self._counters.metrics() + own

    def _server_info(self, _query: dict[str, list[str]]) -> Reply:
        memory, worker = self._plan.memory, self._plan.worker
        info: dict[str, Any] = {
            "simulated": True,
            "engine": "dynamo.mocker timed by wideloop",
            "role": worker.role,
            "model": self._plan.spec.model.name,
            "knobs": worker.knobs.model_dump(),
            "layout": worker.layout.model_dump(),
            "max_total_num_tokens": memory.kv_tokens,
            "memory": {**vars(memory), "weights_gib": memory.weights_gib},
            "expert_imbalance": self._plan.timing.imbalance,
        }
        return 200, json.dumps(info) + "\n"


def _handler(routes: dict[str, Callable[[dict[str, list[str]]], Reply]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            route = routes.get(url.path)
            try:
                status, body = route(parse_qs(url.query)) if route else (404, "Not Found\n")
            except (OSError, ValueError) as error:
                status, body = 500, f"{type(error).__name__}: {error}\n"
            data = body.encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json" if body.startswith("{") else "text/plain")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.do_GET()

        def log_message(self, format: str, *args: Any) -> None:
            """Silent: metrics are scraped often."""

    return Handler
