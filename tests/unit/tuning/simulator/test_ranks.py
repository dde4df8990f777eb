"""Ranks as processes of their own, as they are in pods."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

Start = Callable[[str], "subprocess.Popen[str]"]

PAUSE = "import signal; from wideloop.tuning.simulator import ranks; {}; print('serves', flush=True); signal.pause()"


@pytest.fixture
def start() -> Iterator[Start]:
    """Start one rank by the call it makes."""
    running: list[subprocess.Popen[str]] = []

    def start(call: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", PAUSE.format(f"ranks.{call}")]
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


def said(process: subprocess.Popen[str], text: str) -> str:
    """The line with ``text``."""
    assert process.stdout is not None
    return next(line for line in process.stdout if text in line)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def test_rank_0_serves_once_all_are_there_and_none_outlives_another(start: Start) -> None:
    port = free_port()
    others = [start(f"follow('localhost:{port}', {rank}, 3)") for rank in (1, 2)]
    leader = start(f"gather('127.0.0.1', {port}, 3)")
    assert "all 3 ranks" in said(leader, "all")
    said(leader, "serves")
    for other in others:
        said(other, "rank 0 is there")

    others[0].send_signal(signal.SIGTERM)
    assert others[0].wait(10) == 0
    assert "Connection closed by peer" in said(leader, "is gone")
    assert leader.wait(10) == 1
    assert "rank 0 is gone" in said(others[1], "is gone")
    assert others[1].wait(10) == 1


def test_a_rank_that_waits_for_others_ends_when_asked(start: Start) -> None:
    leader = start(f"gather('127.0.0.1', {free_port()}, 2)")
    said(leader, "waits for the others")
    leader.terminate()
    assert leader.wait(10) == 0
