"""A Hugging Face hub with one repository, as far as its download library asks for one; it can break off or refuse."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import numpy as np


def safetensors(tensors: Mapping[str, int]) -> bytes:
    """A file with these tensors, of so many bytes each."""
    header, at = {}, 0
    for name, size in tensors.items():
        header[name] = {"dtype": "U8", "shape": [size], "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + np.random.default_rng(0).bytes(at)


def tiny_model(config: bytes, shard_bytes: int = 300_000) -> dict[str, bytes]:
    """Files of a model in two shards, with an index and with a file in another format, which nobody needs."""
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    index = {"metadata": {}, "weight_map": {"a": names[0], "b": names[1]}}
    return {
        "config.json": config,
        "tokenizer.json": b'{"version": "1.0"}',
        "model.safetensors.index.json": json.dumps(index).encode(),
        names[0]: safetensors({"a": shard_bytes}),
        names[1]: safetensors({"b": shard_bytes}),
        "original/consolidated.pth": b"x" * 1000,
    }


@dataclass
class Hub:
    """What is served, and what was asked.

    Attributes:
        commit: of the repository. token: who has none, or another, gets nothing of a gated repository.
        cut: file -> bytes after which a connection breaks, once. stall: the same, but it stays open and silent.
        served: bytes of each file that went out.
    """

    repository: str
    files: dict[str, bytes]
    commit: str = "1" * 40
    token: str | None = None
    cut: dict[str, int] = field(default_factory=dict)
    stall: dict[str, int] = field(default_factory=dict)
    served: dict[str, int] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    url: str = ""


@contextmanager
def serving(hub: Hub, host: str = "127.0.0.1") -> Iterator[Hub]:
    """Serve ``hub`` at ``host`` on a port that is free."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer((host, 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.url = f"http://{host}:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        self.hub.requests.append(f"{self.command} {self.path}")

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub = self.hub
        path = unquote(urlsplit(self.path).path)
        if f"{hub.repository}/" not in f"{path}/":
            return self._json(404, {"error": "no such repository"}, {"X-Error-Code": "RepoNotFound"})
        if hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
            return self._json(403, {"error": "gated"}, {"X-Error-Code": "GatedRepo"})
        if match := re.fullmatch(f"/{hub.repository}/resolve/[^/]+/(.+)", path):
            return self._file(match[1])
        if path.endswith("/auth-check"):
            return self._json(200, {})
        if "/tree/" in path:
            return self._json(200, [self._entry(name) for name in hub.files])
        siblings = [{"rfilename": name, "size": len(content)} for name, content in hub.files.items()]
        return self._json(200, {"id": hub.repository, "sha": hub.commit, "siblings": siblings})

    def _entry(self, name: str) -> dict[str, object]:
        content = self.hub.files[name]
        return {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}

    def _file(self, name: str) -> None:
        content = self.hub.files[name]
        begin = 0
        if match := re.fullmatch(r"bytes=(\d+)-.*", self.headers.get("Range", "")):
            begin = int(match[1])
        part = content[begin:]
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", self.hub.commit)
        self.end_headers()
        if self.command == "HEAD":
            return
        stall = self.hub.stall.pop(name, None)
        cut = self.hub.cut.pop(name, stall)
        self.wfile.write(part[:cut])
        self.hub.served[name] = self.hub.served.get(name, 0) + len(part[:cut])
        if cut is not None:
            self.wfile.flush()
            if stall is not None:
                self.connection.recv(1)  # Until the client goes.
            self.connection.close()

    def _json(self, status: int, body: object, headers: Mapping[str, str] | None = None) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        for key, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)
