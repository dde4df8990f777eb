"""Child processes that end when this process ends, however it ends."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

#: The kernel's "kill me when my parent dies" means the parent *thread*: children are started by one that stays.
_starter = ThreadPoolExecutor(1, thread_name_prefix="starter")


def start(command: Sequence[str], log: Path, **options: Any) -> subprocess.Popen[bytes]:
    """Start ``command`` with its output appended to ``log``; it is killed should this process die.

    ``options`` are those of :class:`subprocess.Popen`. Call it from any thread.
    """
    if setpriv := shutil.which("setpriv"):
        command = [setpriv, "--pdeathsig", "KILL", *command]
    with log.open("ab") as out:
        options = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": subprocess.STDOUT} | options
        return _starter.submit(subprocess.Popen, list(command), **options).result()


def end(process: subprocess.Popen[bytes], grace_s: float) -> None:
    """SIGTERM, and SIGKILL when it has not ended after ``grace_s`` seconds."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(grace_s)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()
