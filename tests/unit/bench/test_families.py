"""Whose a process is, told by session and mark; and that real processes are seen as they are."""

import os
import subprocess
import sys
from pathlib import Path

from wideloop.operators.targets.local.process import MARK

from tests.bench import memory
from tests.bench.memory import Process, families

HOME = Path("/home/of/demo/local")
COMMAND, AIRFLOW = 100, 200


def told(*processes: Process, airflow: int | None = AIRFLOW) -> dict[int, str]:
    return dict(families(processes, command=COMMAND, airflow=airflow, deployments=HOME))


def test_the_command_and_airflow_are_told_by_their_sessions() -> None:
    found = told(
        Process(100, 1, 100), Process(200, 100, 200), Process(201, 200, 200), Process(202, 1, 200), Process(9, 1, 9)
    )
    assert found == {100: "command", 200: "airflow", 201: "airflow", 202: "airflow"}


def test_before_airflow_is_known_it_is_the_commands_child() -> None:
    assert told(Process(100, 1, 100), Process(200, 100, 200), airflow=None) == {100: "command", 200: "command"}


def test_engines_and_clients_are_told_by_their_mark() -> None:
    found = told(
        Process(300, 1, 300, f"{HOME}/trial-1/components/decode"),
        Process(400, 1, 400, f"{HOME}/trial-1/clients/trial-1"),
        Process(500, 1, 500, "/home/of/another/local/trial-1/components/decode"),
    )
    assert found == {300: "engine", 400: "client"}


def test_a_process_that_lost_its_mark_is_told_by_its_session_or_its_parent() -> None:
    found = told(
        Process(400, 1, 400, f"{HOME}/trial-1/clients/trial-1"),
        Process(401, 400, 400),
        Process(402, 401, 402),
        Process(403, 402, 403),
    )
    assert set(found.values()) == {"client"}
    assert len(found) == 4


def test_a_deployment_called_clients_is_not_a_client() -> None:
    assert told(Process(300, 1, 300, f"{HOME}/clients/components/decode")) == {300: "engine"}


def test_a_real_process_is_seen_with_its_session_mark_and_memory(tmp_path: Path) -> None:
    mark = tmp_path / "local" / "d" / "components" / "decode"
    script = "import sys; held = bytearray(64 << 20); print(flush=True); sys.stdin.read()"
    child = subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, MARK: str(mark)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert child.stdout is not None
        child.stdout.readline()
        seen = next(p for p in memory.all_processes() if p.pid == child.pid)
        assert seen == Process(child.pid, os.getpid(), child.pid, str(mark))
        sampler = memory.Sampler(tmp_path, command=child.pid)
        assert sampler.processes() == {child.pid: "engine"}
        assert 64 < sampler.sample()["engine"] / 2**20 < 128
    finally:
        child.communicate()
    assert memory.pss(child.pid) == 0
