"""An HTTP server that answers as it is told: the faults of an API server that a healthy one cannot be asked for."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

Reply = Callable[[BaseHTTPRequestHandler], None]


def answer(status: int, body: Any, **headers: str) -> Reply:
    """Send JSON (or bytes) with its length."""

    def reply(handler: BaseHTTPRequestHandler) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        handler.send_response(status)
        for name, value in ({"Content-Length": str(len(data))} | headers).items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(data)

    return reply


def refusal(status: int, reason: str, message: str = "no") -> Reply:
    """An error as the API server words it."""
    return answer(status, {"kind": "Status", "reason": reason, "message": message, "code": status})


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    """Close the connection without a word."""
    handler.close_connection = True
    handler.connection.shutdown(2)


def stream(*events: Any, then: Callable[[], Any] = lambda: None) -> Reply:
    """The lines of a watch, then the end of the connection once ``then`` returns."""

    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        for event in events:
            handler.wfile.write(json.dumps(event).encode() + b"\n")
            handler.wfile.flush()
        then()
        handler.close_connection = True

    return reply


class Script:
    """What was asked, and what to answer: one reply after the other for each method and path; the last one repeats.

    What it was told nothing about is answered with ``otherwise``.
    """

    def __init__(self, otherwise: Reply | None = None) -> None:
        self._otherwise = otherwise or refusal(404, "NotFound")
        self.asked: list[tuple[str, str]] = []
        self.tokens: list[str] = []
        self._replies: dict[tuple[str, str], list[Reply]] = {}

    def on(self, method: str, path: str, *replies: Reply) -> None:
        self._replies[method, path] = list(replies)

    def times(self, path: str) -> int:
        return sum(asked == path for _, asked in self.asked)

    def reply(self, handler: BaseHTTPRequestHandler) -> None:
        path, _, query = handler.path.partition("?")
        if "watch=true" in query:
            path += "?watch"
        handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        self.asked.append((handler.command, path))
        self.tokens.append(handler.headers.get("Authorization", ""))
        replies = self._replies.get((handler.command, path), [self._otherwise])
        reply = replies.pop(0) if len(replies) > 1 else replies[0]
        reply(handler)


@contextmanager
def serve(script: Script, port: int = 0) -> Iterator[int]:
    """The port on which the script is served."""

    class Handler(BaseHTTPRequestHandler):
        def do(self) -> None:
            script.reply(self)

        do_GET = do_POST = do_PATCH = do_DELETE = do  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def write_kubeconfig(path: Path, port: int, token: str = "t") -> Path:
    path.write_text(
        yaml.safe_dump(
            {
                "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
                "users": [{"name": "u", "user": {"token": token}}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u", "namespace": "ns"}}],
                "current-context": "x",
            }
        )
    )
    return path
