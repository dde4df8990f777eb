"""Child processes that outlive the task that started them, and can be found again and ended for certain.

A process is known by its pid *and* its start time (a pid alone may be somebody else's by now), the latter
counted from the system's start, because a step of the clock moves all times of day. Whatever it starts
in turn is found by a mark in the environment, which children inherit even when they leave the session
or lose their parent.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil
from wideloop.operators.targets.base import left_out
from wideloop.operators.targets.files import write_whole

#: Environment variable that marks every started process with the folder of its deployment.
MARK = "WIDELOOP_DEPLOYMENT"

#: Resolution of the kernel's start times.
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")

_LOOK_AGAIN_S = 0.05

#: Leaves the exit status of the wrapped command in the file named by $0, also when it was killed.
_KEEP_STATUS = '"$@"; echo $? > "$0.tmp"; mv "$0.tmp" "$0"'


class ProcessRecord:
    """One started process, described by the files in its folder: process.json, exit, log."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "log"
        self._record = folder / "process.json"
        self._exit = folder / "exit"

    def start(self, argv: Sequence[str], env: Mapping[str, str]) -> None:
        """Start ``argv`` in a session of its own, marked with this folder, its output appended to ``log``."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._exit.unlink(missing_ok=True)
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                ["/bin/sh", "-c", _KEEP_STATUS, str(self._exit), *argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**env, MARK: str(self.folder)},
                cwd=self.folder,
                start_new_session=True,
            )
        running = psutil.Process(process.pid)
        _write_json(
            self._record, {"pid": running.pid, "uptime": _uptime_at_start(running), "started": running.create_time()}
        )

    @property
    def started(self) -> float | None:
        """Start time in seconds since the epoch, None when never started."""
        record = _read_json(self._record)
        return float(record["started"]) if record else None

    @property
    def ended(self) -> float | None:
        """Time the process was seen to have ended, None while it runs or when it left no status."""
        return self._exit.stat().st_mtime if self._exit.exists() else None

    def alive(self) -> bool:
        """Whether this very process still runs."""
        record = _read_json(self._record)
        if not record or self._exit.exists():
            return False
        try:
            process = psutil.Process(int(record["pid"]))
            same = abs(_uptime_at_start(process) - record["uptime"]) < _TICK_S / 2
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def stopped(self) -> list[int]:
        """Pids of this process and its children that were stopped (SIGSTOP) and do nothing."""
        record = _read_json(self._record)
        if not record or not self.alive():
            return []
        with contextlib.suppress(psutil.Error):
            root = psutil.Process(int(record["pid"]))
            return [p.pid for p in (root, *root.children(recursive=True)) if _is_stopped(p)]
        return []

    def exit_code(self) -> int | None:
        """Exit status; negative for a signal (as ``subprocess`` has it); None when running or unknown."""
        try:
            code = int(self._exit.read_text())
        except (OSError, ValueError):
            return None
        return 128 - code if 128 < code <= 128 + signal.NSIG else code

    def first_and_last(self, size: int) -> bytes:
        """The log, or its first and last ``size`` bytes where it is longer than both."""
        try:
            with self.log.open("rb") as log:
                length = self.log.stat().st_size
                if length <= 2 * size:
                    return log.read()
                first = log.read(size)
                log.seek(length - size)
                return first + left_out(length - 2 * size) + log.read(size)
        except OSError:
            return b""

    def tail(self, lines: int) -> tuple[str, ...]:
        """The last ``lines`` lines of the log."""
        try:
            with self.log.open("rb") as log:
                log.seek(max(0, self.log.stat().st_size - 400 * lines))
                text = log.read().decode(errors="replace")
        except OSError:
            return ()
        return tuple(text.splitlines()[-lines:])


def _is_stopped(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_STOPPED)
    except psutil.Error:
        return False


def _uptime_at_start(process: psutil.Process) -> float:
    """Seconds from the system's start to the process's, which no clock changes."""
    return process.create_time() - psutil.boot_time()


def marked(below: Path) -> Iterator[tuple[psutil.Process, Path]]:
    """Living processes marked with a folder below ``below``, and that folder."""
    for process in psutil.process_iter():
        try:
            mark = process.environ().get(MARK, "")
            if mark and Path(mark).is_relative_to(below) and process.status() != psutil.STATUS_ZOMBIE:
                yield process, Path(mark)
        except psutil.Error:
            continue


def marked_below(root: Path) -> set[Path]:
    """The marks of all living processes below ``root``, missing none that is just being executed."""
    marks = {mark for _, mark in marked(root)}
    time.sleep(_LOOK_AGAIN_S)
    return marks | {mark for _, mark in marked(root)}


def end_marked(folder: Path, grace_s: float) -> None:
    """End every process marked with ``folder`` or below; politely first, for certain after ``grace_s`` seconds.

    Raises:
        TimeoutError: something survived SIGKILL (it hangs in the kernel).
    """
    for ask, patience in ((psutil.Process.terminate, grace_s), (psutil.Process.kill, 30.0)):
        asked: set[int] = set()
        deadline = time.monotonic() + patience
        # Look again each time: a process may have started another between the look and the signal.
        while processes := _others_marked(folder):
            if time.monotonic() > deadline:
                break
            for process in processes:
                if process.pid not in asked:
                    asked.add(process.pid)
                    with contextlib.suppress(psutil.NoSuchProcess):
                        ask(process)
            time.sleep(_LOOK_AGAIN_S)
        else:
            return
    raise TimeoutError(f"processes {[p.pid for p in processes]} of {folder.name} survived SIGKILL")


def _others_marked(folder: Path) -> list[psutil.Process]:
    """Other processes marked with ``folder`` or below. One that is just being executed has no environment for
    a moment (1 look in 100 right after a start), so nothing counts as gone that was missed only once."""
    for wait in (_LOOK_AGAIN_S, 0):
        others = [p for p, _ in marked(folder) if p.pid != os.getpid()]
        if others:
            return others
        time.sleep(wait)
    return []


def _read_json(path: Path) -> dict[str, float] | None:
    try:
        data: dict[str, float] = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return data


def _write_json(path: Path, data: object) -> None:
    write_whole(path, json.dumps(data))
