"""What this machine must offer before Airflow is started: a free port, disk and memory."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import psutil

from operators.demo.errors import DemoError

GIB = 1024**3
#: Room for Airflow's database, its logs, recordings and the load generator's files of many cycles.
DISK_GIB = 1.0
#: What Airflow, four task processes, one deployment and the load generator take together at most.
MEMORY_GIB = 4.0


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
    """Refuse a port that somebody listens on."""
    if not port_is_free(port, host):
        another = free_port(port + 1, host)
        raise DemoError(f"port {port} is in use; choose another: make demo PORT={another}")


def free_port(first: int, host: str = "127.0.0.1") -> int:
    """The first free port from ``first`` on."""
    for port in range(first, 65536):
        if port_is_free(port, host):
            return port
    raise DemoError(f"no port from {first} on is free")


def require_disk(folder: Path) -> None:
    """Refuse when ``folder``'s disk is nearly full."""
    free = shutil.disk_usage(folder).free / GIB
    if free < DISK_GIB:
        raise DemoError(f"too little disk: a run needs {DISK_GIB:.1f} GiB in {folder}, {free:.1f} GiB are free")


def require_memory() -> None:
    """Refuse when the demo would drive this machine out of memory."""
    available = psutil.virtual_memory().available / GIB
    if available < MEMORY_GIB:
        raise DemoError(f"too little memory: {MEMORY_GIB:.1f} GiB are needed, {available:.1f} GiB are available")
