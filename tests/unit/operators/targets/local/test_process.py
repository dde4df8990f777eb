"""Real processes: what is told about them, and that they are ended for certain."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from wideloop.operators.targets.local.process import MARK, ProcessRecord, end_marked, marked

ENV = {"PATH": os.environ["PATH"]}
SLEEP = ("sleep", "60")


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A folder whose marked processes do not outlive the test."""
    yield tmp_path / "state"
    end_marked(tmp_path, grace_s=0)


def until(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.02)


def started(folder: Path, *argv: str) -> ProcessRecord:
    record = ProcessRecord(folder)
    record.start(argv, ENV)
    return record


def marked_pids(folder: Path) -> set[int]:
    return {p.pid for p, _ in marked(folder)}


def test_a_running_process_is_alive_and_has_no_exit_code(root: Path) -> None:
    record = started(root / "one", *SLEEP)
    assert record.alive()
    assert record.exit_code() is None and record.ended is None
    assert record.started == pytest.approx(time.time(), abs=10)


def test_it_outlives_the_process_that_started_it(root: Path) -> None:
    script = (
        "import os, sys, pathlib\n"
        "from wideloop.operators.targets.local.process import ProcessRecord\n"
        "ProcessRecord(pathlib.Path(sys.argv[1])).start(('sleep', '60'), dict(os.environ))\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(root / "one")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert ProcessRecord(root / "one").alive()


@pytest.mark.parametrize(
    ("script", "code"), [("exit 0", 0), ("exit 3", 3), ("exit 255", 255), ("kill -9 $$", -9), ("kill -15 $$", -15)]
)
def test_the_exit_status_is_kept_also_of_one_that_was_killed(root: Path, script: str, code: int) -> None:
    record = started(root / "one", "/bin/sh", "-c", script)
    until(lambda: not record.alive() and record.exit_code() is not None)
    assert record.exit_code() == code
    assert record.ended == pytest.approx(time.time(), abs=10)


def test_a_second_start_forgets_the_first_ones_status(root: Path) -> None:
    record = started(root / "one", "/bin/sh", "-c", "exit 3")
    until(lambda: record.exit_code() == 3)
    record.start(SLEEP, ENV)
    assert record.alive() and record.exit_code() is None


def test_what_was_never_started_is_not_alive(root: Path) -> None:
    record = ProcessRecord(root / "one")
    assert not record.alive()
    assert record.started is None and record.exit_code() is None and record.tail(5) == ()


def test_the_tail_holds_the_last_lines_of_both_outputs(root: Path) -> None:
    record = started(root / "one", "/bin/sh", "-c", "seq 1 500; echo problem >&2")
    until(lambda: record.exit_code() is not None)
    assert record.tail(3) == ("499", "500", "problem")


def test_the_tail_of_undecodable_bytes_is_still_text(root: Path) -> None:
    record = started(root / "one", "/bin/sh", "-c", r"printf 'a\377b\n'")
    until(lambda: record.exit_code() is not None)
    assert record.tail(1) == ("a\ufffdb",)


def test_another_process_with_the_same_pid_is_not_it(root: Path) -> None:
    record = started(root / "one", *SLEEP)
    file = root / "one" / "process.json"
    kept = json.loads(file.read_text())
    earlier = {key: value - 100 if key != "pid" else value for key, value in kept.items()}
    file.write_text(json.dumps(earlier))
    assert psutil.pid_exists(kept["pid"])
    assert not record.alive()


def test_a_step_of_the_systems_clock_kills_nobody(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = started(root / "one", *SLEEP)
    real = psutil._pslinux.boot_time
    # psutil counts start times from the boot time, which the kernel gives by the clock of the moment.
    monkeypatch.setattr(psutil._pslinux, "boot_time", lambda: real() + 3600)
    assert record.alive()


def test_a_zombie_is_not_alive(root: Path) -> None:
    record = started(root / "one", *SLEEP)
    pid = json.loads((root / "one" / "process.json").read_text())["pid"]
    os.kill(pid, signal.SIGKILL)  # its parent, this process, does not look, so it stays a zombie
    until(lambda: psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    assert not (root / "one" / "exit").exists()
    assert not record.alive()


def test_ending_ends_children_that_left_the_session_and_lost_their_parent(root: Path) -> None:
    daemonise = (
        "import os, time\n"
        "if os.fork(): os._exit(0)\n"
        "os.setsid()\n"
        "if os.fork(): os._exit(0)\n"
        "time.sleep(60)\n"
    )  # fmt: skip
    started(root / "one", "/bin/sh", "-c", f'setsid sleep 60 & "{sys.executable}" -S -c "$0"; sleep 60', daemonise)
    until(lambda: any(p.ppid() == 1 or "-S" in p.cmdline() for p, _ in marked(root / "one")))
    until(lambda: len(marked_pids(root / "one")) >= 4)
    end_marked(root / "one", grace_s=5)
    assert marked_pids(root / "one") == set()


def test_a_process_that_ignores_sigterm_is_killed(root: Path) -> None:
    record = started(root / "one", "/bin/sh", "-c", "trap '' TERM; echo deaf; sleep 60; sleep 60")
    until(lambda: record.tail(1) == ("deaf",))
    began = time.monotonic()
    end_marked(root / "one", grace_s=0.3)
    assert 0.3 <= time.monotonic() - began < 10
    assert marked_pids(root / "one") == set()


def test_one_that_ends_when_asked_is_not_killed(root: Path) -> None:
    said = root / "said"
    record = started(root / "one", "/bin/sh", "-c", f"trap 'echo bye > {said}; exit' TERM; echo up; sleep 60 & wait")
    until(lambda: record.tail(1) == ("up",))
    end_marked(root / "one", grace_s=10)
    assert said.read_text() == "bye\n"


def test_what_carries_another_mark_or_none_is_never_touched(root: Path) -> None:
    # "one" is the beginning of the neighbour's name, and the neighbour's folder is named in its arguments.
    neighbour = started(root / "one-more", *SLEEP)
    plain = subprocess.Popen(["sleep", "60", "60"], env=ENV, start_new_session=True, cwd="/")
    started(root / "one" / "components" / "frontend", *SLEEP)
    try:
        end_marked(root / "one", grace_s=5)
        assert neighbour.alive()
        assert plain.poll() is None
    finally:
        plain.kill()
        plain.wait()


def test_a_process_caught_in_the_middle_of_its_execution_is_not_missed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = started(root / "one", *SLEEP)
    read, looks = psutil.Process.environ, []

    def environ(process: psutil.Process) -> dict[str, str]:
        found = read(process)
        if MARK not in found:
            return found
        looks.append(process.pid)
        return {} if len(looks) <= 2 else found  # what the kernel shows while a program is being loaded

    until(lambda: len(marked_pids(root)) == 2)
    monkeypatch.setattr(psutil.Process, "environ", environ)
    end_marked(root / "one", grace_s=5)
    assert not record.alive()
    assert marked_pids(root) == set()


def test_ending_what_does_not_run_is_no_error(root: Path) -> None:
    end_marked(root / "nothing", grace_s=0)


def test_the_ender_survives_when_it_carries_the_mark_itself(root: Path) -> None:
    script = (
        "import pathlib, sys\n"
        "from wideloop.operators.targets.local.process import end_marked\n"
        "end_marked(pathlib.Path(sys.argv[1]), 0.1)\n"
        "print('still here')\n"
    )
    environment = {**os.environ, MARK: str(root / "one")}
    command = [sys.executable, "-c", script, str(root / "one")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "still here\n", done.stderr


def test_marks_name_the_folder_of_each_process(root: Path) -> None:
    for name in ("one", "two"):
        started(root / name, *SLEEP)
    until(lambda: {mark for _, mark in marked(root)} == {root / "one", root / "two"})
