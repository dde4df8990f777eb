"""What this machine must offer before Airflow is started: the engine's environments, a free port, disk and memory."""

from __future__ import annotations

import platform
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from wideloop.operators import bootstrap
from wideloop.operators.commands.demo.errors import DemoError

GB = bootstrap.GB
#: What Airflow, four task processes, one deployment and the load generator take together at most.
MEMORY_GB = 4.3


def make_environments(home: Path) -> None:
    """Make the environments of engine and load generator that are missing; those that exist are left alone.

    In a clone ``make demo`` has made them. For an installed wheel nothing else does.

    Raises:
        DemoError: they cannot be made here, as the bootstrap says.
    """
    missing = [e for e in bootstrap.needed() if e.name != "airflow" and not (home / "venvs" / e.name).exists()]
    with _setup():
        bootstrap.make_importable(home)
        if missing:
            bootstrap.check_python(sys.version_info[:3])
            bootstrap.check_system(platform.system())
            bootstrap.make(missing, home)


def port_is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen on ``port``; one that was just closed counts as free."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def require_port(port: int, host: str) -> None:
    """Refuse a port that is in use."""
    if not port_is_free(port, host):
        another = free_port(port + 1, host)
        raise DemoError(f"port {port} is in use; choose another: {bootstrap.demo_command(PORT=another)}")


def free_port(first: int, host: str = "127.0.0.1") -> int:
    """The first free port from ``first`` on."""
    for port in range(first, 65536):
        if port_is_free(port, host):
            return port
    raise DemoError(f"no port from {first} on is free")


def require_disk(folder: Path) -> None:
    """Refuse when ``folder``'s disk is nearly full."""
    with _setup():
        bootstrap.check_disk(folder, bootstrap.disk_needed_gb([]))


def require_memory() -> None:
    """Refuse when the demo would drive this machine out of memory."""
    available = psutil.virtual_memory().available / GB
    if available < MEMORY_GB:
        raise DemoError(f"too little memory: {MEMORY_GB:.1f} GB are needed, {available:.1f} GB are available")


@contextmanager
def _setup() -> Iterator[None]:
    """What the bootstrap refuses, the demo refuses in the same words."""
    try:
        yield
    except bootstrap.SetupError as refused:
        raise DemoError(str(refused)) from refused
