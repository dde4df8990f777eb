"""The real argument parsers of Dynamo and SGLang, run once on the machine and asked by every pod.

Their imports take seconds and 0.6 GB, and a large deployment has 18 pods on two cores.
"""

from __future__ import annotations

import contextlib
import json
import socketserver
import subprocess
import sysconfig
import threading
from pathlib import Path

from wideloop.operators.bootstrap import PROJECT
from wideloop.operators.settings import Settings

from tests.cluster import processes


def parser_packages(version: str) -> list[str]:
    """Folders with SGLang of that version and with torch, to be appended to the path of environment ``simulated``.

    Raises:
        FileNotFoundError: the environment is not built.
    """
    environment = Settings().environments / f"sglang-parser-{version}"
    if not environment.exists():
        raise FileNotFoundError(f"{environment} is not built: python3 operators/bootstrap.py --tests")
    (packages,) = (environment / "lib").glob("python*/site-packages")
    return [str(packages), sysconfig.get_path("purelib")]


class ParserService:
    """Answers command lines of ``python -m dynamo.sglang`` at ``address``, each a line of JSON.

    The parser itself is a process that starts with the first question.
    """

    def __init__(self, version: str, host: str, log: Path) -> None:
        self.version = version
        python = Settings().environments / "simulated" / "bin" / "python"
        appended = [part for folder in parser_packages(version) for part in ("--append", folder)]
        self._command = [str(python), "-m", "tests.engine_parser", "--dynamo", *appended]
        self._log = log
        self._lock = threading.Lock()
        self._answers: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None
        service = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                for line in self.rfile:
                    self.wfile.write(service._answer(line.decode().strip()).encode() + b"\n")

        self._server = socketserver.ThreadingTCPServer((host, 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, name="parsers", daemon=True).start()

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._server.server_address[:2]
        return str(host), int(port)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        if self._process is not None:
            processes.end(self._process, 1)
            assert self._process.stdin and self._process.stdout
            for pipe in (self._process.stdin, self._process.stdout):
                with contextlib.suppress(OSError):
                    pipe.close()

    def _answer(self, line: str) -> str:
        with self._lock:
            if line not in self._answers:
                self._answers[line] = self._ask(line)
            return self._answers[line]

    def _ask(self, line: str) -> str:
        if self._process is None:
            with self._log.open("ab") as log:
                pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log}
                self._process = processes.start(self._command, self._log, cwd=PROJECT, **pipes)
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(f"{line}\n".encode())
        self._process.stdin.flush()
        return self._process.stdout.readline().decode().strip() or json.dumps({"error": "the parser died"})
