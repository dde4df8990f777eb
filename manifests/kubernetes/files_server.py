"""A folder over HTTP: what the files pod of a deployment runs, given to ``python -c`` as it stands here.

So it imports the standard library only. Airflow has no claim mounted; it reads recordings and results through
the API server's proxy, which hands a request on as it is::

    GET  /list/<folder>    every file below it: {"files": [{"path": ..., "bytes": ..., "modified": ...}]}
    GET  /file/<path>      one file, with its length
    POST /remove/<folder>  forget it

Each with ``?key=<uid of the pod>``, which the API server tells to who may read the pod, and which nobody else on the
network of the pods can guess.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import os
import shutil
import sys
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_OPEN = 0o1777
#: Holds the key that every request must carry.
KEY = "POD_UID"


class Handler(BaseHTTPRequestHandler):
    """Serves what is below ``root``, and nothing beside it."""

    root: Path
    key: str
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        action, path = self._asked()
        if path is None:
            self.send_error(403)
        elif action == "list":
            # A folder that was not made yet has no files.
            entries = [(p, p.stat()) for p in sorted(path.rglob("*")) if p.is_file() and not p.is_symlink()]
            files = [{"path": str(p.relative_to(path)), "bytes": s.st_size, "modified": s.st_mtime} for p, s in entries]
            self._answer(json.dumps({"files": files}).encode())
        elif action == "file" and path.is_file():
            self._send_file(path)
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        action, path = self._asked()
        if action != "remove" or path is None:
            self.send_error(404 if path else 403)
            return
        shutil.rmtree(path, ignore_errors=True)
        if path.exists():
            self.send_error(500, "not all of it could be removed")
        else:
            self._answer(b"{}")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the log of a pod is read when something went wrong."""

    def _asked(self) -> tuple[str, Path | None]:
        """The action and the path asked for; None when that would lie beside the root, or without the key."""
        url = urllib.parse.urlsplit(self.path)
        action, _, rest = urllib.parse.unquote(url.path).lstrip("/").partition("/")
        (key,) = urllib.parse.parse_qs(url.query).get("key", [""])[:1]
        if not hmac.compare_digest(key.encode(), self.key.encode()):
            return action, None
        path = (self.root / rest.strip("/")).resolve()
        return action, path if path == self.root or self.root in path.parents else None

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _send_file(self, path: Path) -> None:
        with path.open("rb") as file:
            size = path.stat().st_size
            self.send_response(200)
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Content-Length", str(size))
            self.end_headers()
            # A file that still grows is sent as it was when asked for.
            while size > 0 and (piece := file.read(min(1 << 20, size))):
                self.wfile.write(piece)
                size -= len(piece)


def open_to_all(folder: Path) -> None:
    """Make a folder in which every user may make files and folders, as in /tmp: engines' images have users of their
    own, and none of them is this pod's."""
    folder.mkdir(parents=True, exist_ok=True)
    if folder.stat().st_mode & 0o7777 != _OPEN:
        with contextlib.suppress(PermissionError):  # Somebody else's, who has decided who may write there.
            folder.chmod(_OPEN)


def main(root: str, port: str, *shared: str) -> None:
    """Serve ``root`` on ``port`` of every address, until killed; ``shared``: more folders that all may write to."""
    Handler.root, Handler.key = Path(root).resolve(), os.environ[KEY]
    for folder in (Handler.root, *map(Path, shared)):
        open_to_all(folder)
    ThreadingHTTPServer(("", int(port)), Handler).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
