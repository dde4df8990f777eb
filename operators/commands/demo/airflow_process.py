"""``airflow standalone`` as a child in a session of its own: found again, and ended with everything it started.

Airflow's components do not end with the command that started them (a terminated ``standalone`` leaves
dozens of processes), but all stay in its session, and a session's number is that of its first process.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from wideloop.operators.commands.demo.airflow_home import AirflowHome
from wideloop.operators.commands.demo.errors import DemoError

#: What follows SIGINT, and the patience before it in seconds.
_ESCALATION = ((signal.SIGTERM, 8.0), (signal.SIGKILL, 5.0))


@dataclass(frozen=True)
class Mark:
    """A process, for certain: its pid and its start time in seconds since the epoch."""

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> Mark:
        return cls(pid, psutil.Process(pid).create_time())

    @property
    def alive(self) -> bool:
        try:
            process = psutil.Process(self.pid)
            return process.create_time() == self.started and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


@dataclass(frozen=True)
class Running:
    """What ``demo.json`` in the home records: the command at the terminal, its Airflow, and the port."""

    command: Mark
    airflow: Mark
    port: int

    @classmethod
    def read(cls, home: Path) -> Running | None:
        """The record of the last demo of this home, whether or not it still runs."""
        try:
            data = json.loads((home / "demo.json").read_text())
            return cls(Mark(**data["command"]), Mark(**data["airflow"]), int(data["port"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, home: Path) -> None:
        unfinished = home / "demo.json.tmp"
        unfinished.write_text(json.dumps(asdict(self)))
        unfinished.replace(home / "demo.json")

    @staticmethod
    def forget(home: Path) -> None:
        """Remove the record of a demo of which nothing runs any more."""
        (home / "demo.json").unlink(missing_ok=True)


def start(home: AirflowHome) -> Mark:
    """Start Airflow; its output goes to ``home.log``."""
    home.folder.mkdir(parents=True, exist_ok=True)
    environment = home.environment(os.environ)
    with home.log.open("ab") as log:
        process = subprocess.Popen(
            [str(Path(environment["PATH"].split(os.pathsep)[0]) / "airflow"), "standalone"],
            env=environment,
            cwd=home.folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Mark.of(process.pid)


def wait_until(ready: Callable[[], bool], airflow: Mark, home: AirflowHome, timeout_s: float, event: str) -> None:
    """Wait for ``ready``, failing at once when Airflow ends.

    Raises:
        DemoError: Airflow ended, or ``timeout_s`` passed.
    """
    deadline = time.monotonic() + timeout_s
    while not ready():
        if not airflow.alive:
            raise DemoError(f"Airflow ended while starting; its last lines ({home.log}):\n{tail(home.log)}")
        if time.monotonic() > deadline:
            raise DemoError(f"{event} did not happen within {timeout_s:.0f} s; see {home.log}:\n{tail(home.log)}")
        time.sleep(0.5)


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a file."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return "(no log)"


def stop(airflow: Mark) -> None:
    """End Airflow and every process of its session.

    First as Ctrl-C would, which a component that is only just starting may swallow; then by asking
    every process; then for certain.
    """
    if airflow.alive:
        with contextlib.suppress(ProcessLookupError):
            os.kill(airflow.pid, signal.SIGINT)
    for number, patience_s in _ESCALATION:
        if _gone(airflow, patience_s):
            return
        for process in members(airflow):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
    if not _gone(airflow, 10.0):
        left = ", ".join(str(p.pid) for p in members(airflow))
        raise DemoError(f"processes of Airflow survived SIGKILL: {left}")


def members(airflow: Mark) -> list[psutil.Process]:
    """Living processes of the session that ``airflow`` began, itself included.

    The kernel gives a pid away again only when no session bears it any more. So when ``airflow`` has ended
    and no other process has its pid, a session of that number is still Airflow's.
    """
    if psutil.pid_exists(airflow.pid) and psutil.Process(airflow.pid).create_time() != airflow.started:
        return []
    processes = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getsid(process.pid) == airflow.pid and process.status() != psutil.STATUS_ZOMBIE:
                processes.append(process)
    return processes


def _gone(airflow: Mark, patience_s: float) -> bool:
    deadline = time.monotonic() + patience_s
    while members(airflow):
        if time.monotonic() > deadline:
            return False
        with contextlib.suppress(ChildProcessError):
            os.waitpid(airflow.pid, os.WNOHANG)
        time.sleep(0.2)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(airflow.pid, os.WNOHANG)
    return True
