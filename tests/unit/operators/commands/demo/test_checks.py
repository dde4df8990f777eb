"""What the demo asks of a machine."""

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from wideloop.operators.commands.demo import checks
from wideloop.operators.commands.demo.errors import DemoError


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def test_a_port_in_use_is_named_with_one_that_is_free(taken: int) -> None:
    with pytest.raises(DemoError, match=rf"^port {taken} is in use; choose another: make demo PORT=\d+$") as refused:
        checks.require_port(taken, "127.0.0.1")
    suggested = int(str(refused.value).rpartition("=")[2])
    checks.require_port(suggested, "127.0.0.1")


def test_free_port_steps_over_a_taken_one(taken: int) -> None:
    assert checks.free_port(taken) > taken


def test_a_full_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checks.require_disk(tmp_path)
    usage = shutil.disk_usage(tmp_path)._replace(free=1024**2)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DemoError, match=r"1\.0 GB are needed in .*, 0\.0 GB are free"):
        checks.require_disk(tmp_path)


def test_too_little_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=2 * checks.GB))
    with pytest.raises(DemoError, match=r"4\.3 GB are needed, 2\.0 GB are available"):
        checks.require_memory()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=5 * checks.GB))
    checks.require_memory()
