"""Ending a process tree that does not want to end, and never a stranger's process."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from wideloop.operators.commands.demo import airflow_process
from wideloop.operators.commands.demo.airflow_home import AirflowHome
from wideloop.operators.commands.demo.airflow_process import Mark, Running
from wideloop.operators.commands.demo.errors import DemoError

# A parent whose child ignores every polite signal, as a component in a bad moment does.
STUBBORN = """
import signal, subprocess, sys, time
child = (
    "import signal, time; [signal.signal(n, signal.SIG_IGN) for n in (2, 15)]; "
    "print('up', flush=True); time.sleep(60)"
)
subprocess.Popen([sys.executable, "-c", child], stdout=sys.stdout)
time.sleep(60)
"""


@pytest.fixture
def stubborn(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mark]:
    monkeypatch.setattr(airflow_process, "_ESCALATION", ((signal.SIGTERM, 0.3), (signal.SIGKILL, 0.3)))
    process = subprocess.Popen(
        [sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    mark = Mark.of(process.pid)
    yield mark
    process.stdout.close()
    for left in airflow_process.members(mark):
        left.kill()
    process.wait(5)


def test_stop_ends_the_whole_session(stubborn: Mark) -> None:
    assert len(airflow_process.members(stubborn)) == 2
    airflow_process.stop(stubborn)
    assert airflow_process.members(stubborn) == []
    assert not stubborn.alive


def test_stop_ends_children_whose_parent_died_before(stubborn: Mark) -> None:
    os.kill(stubborn.pid, signal.SIGKILL)
    os.waitpid(stubborn.pid, 0)
    assert len(airflow_process.members(stubborn)) == 1
    airflow_process.stop(stubborn)
    assert airflow_process.members(stubborn) == []


def test_a_stranger_with_the_same_pid_is_left_alone(stubborn: Mark) -> None:
    before = Mark(stubborn.pid, stubborn.started - 100)
    assert not before.alive
    assert airflow_process.members(before) == []
    airflow_process.stop(before)
    assert stubborn.alive


def test_waiting_ends_at_once_when_airflow_ends(tmp_path: Path) -> None:
    home = AirflowHome(tmp_path)
    home.folder.mkdir()
    home.log.write_text("first\nthe reason\n")
    gone = Mark(psutil.Process().pid, 0.0)
    began = time.monotonic()
    with pytest.raises(DemoError, match="the reason"):
        airflow_process.wait_until(lambda: False, gone, home, 60, "it")
    assert time.monotonic() - began < 5


def test_waiting_has_an_end(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="the start did not happen within 0 s"):
        airflow_process.wait_until(lambda: False, Mark.of(os.getpid()), AirflowHome(tmp_path), 0, "the start")


def test_the_record_of_a_demo_survives_and_damage_counts_as_none(tmp_path: Path) -> None:
    assert Running.read(tmp_path) is None
    running = Running(Mark(1, 2.0), Mark(3, 4.5), 8080)
    running.write(tmp_path)
    assert Running.read(tmp_path) == running
    (tmp_path / "demo.json").write_text('{"command": ')
    assert Running.read(tmp_path) is None
