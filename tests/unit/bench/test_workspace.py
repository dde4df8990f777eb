"""Homes to measure in, and commands that leave nothing behind."""

import os
import sys
import time
from pathlib import Path

import psutil
import pytest
from wideloop.operators.settings import Settings

from tests.bench.workspace import BenchError, Workspace, environment, run_to_end


@pytest.fixture
def built(tmp_path: Path) -> Settings:
    """A home as the bootstrap leaves it: an environment, the link to it, and the note that it was verified."""
    home = tmp_path / "built"
    (home / "venvs" / "simulated-123" / "bin").mkdir(parents=True)
    (home / "venvs" / "simulated-123" / "bin" / "python").touch()
    (home / "venvs" / "simulated").symlink_to("simulated-123", target_is_directory=True)
    (home / "venvs" / "simulated.verified.json").write_text("{}")
    (home / "tools").mkdir()
    (home / "results.db").touch()
    return Settings(home=home)


def test_a_warm_home_has_environments_and_no_state(built: Settings, tmp_path: Path) -> None:
    home = Workspace(tmp_path, built, None, False, print).warm_home("demo")
    assert (home / "venvs" / "simulated" / "bin" / "python").exists()
    assert (home / "venvs" / "simulated.verified.json").read_text() == "{}"
    assert sorted(p.name for p in home.iterdir()) == ["tools", "venvs"]


def test_what_is_replaced_in_a_warm_home_stays_in_the_built_one(built: Settings, tmp_path: Path) -> None:
    venvs = Workspace(tmp_path, built, None, False, print).warm_home("demo") / "venvs"
    (venvs / "simulated").unlink()
    (venvs / "simulated.verified.json").write_text("changed")
    assert (built.environments / "simulated" / "bin" / "python").exists()
    assert (built.environments / "simulated.verified.json").read_text() == "{}"


def test_another_homes_settings_are_not_inherited(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WIDELOOP_RESULTS_URL", "sqlite:////elsewhere.db")
    monkeypatch.setenv("AIRFLOW_HOME", "/elsewhere")
    env = environment(tmp_path)
    assert env["WIDELOOP_HOME"] == str(tmp_path)
    assert {"WIDELOOP_RESULTS_URL", "AIRFLOW_HOME"}.isdisjoint(env)


def test_a_command_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    noted = tmp_path / "pid"
    script = f"sleep 60 & echo $! > {noted}; wait"
    with pytest.raises(BenchError, match="sh has not ended after 1 s"):
        run_to_end(["/bin/sh", "-c", script], os.environ, 1.0)
    child, deadline = int(noted.read_text()), time.monotonic() + 10
    while _runs(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(child)


def test_a_command_says_its_status_into_the_file_it_is_given(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        assert run_to_end([sys.executable, "-c", "print('said'); raise SystemExit(3)"], os.environ, 30, log) == 3
    assert (tmp_path / "log").read_text() == "said\n"


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
