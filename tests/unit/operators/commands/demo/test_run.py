"""What the demo leaves behind, and what an earlier one left."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from rich.console import Console
from wideloop.manifests.errors import TargetError
from wideloop.operators.bootstrap import SetupError
from wideloop.operators.commands.demo import checks, run
from wideloop.operators.commands.demo.airflow_home import AirflowHome
from wideloop.operators.commands.demo.airflow_process import Mark, Running
from wideloop.operators.commands.demo.errors import DemoError
from wideloop.operators.commands.demo.run import Demo, delete_deployments
from wideloop.operators.settings import settings
from wideloop.operators.targets.base import Owned
from wideloop.operators.targets.local.process import ProcessRecord, marked


def started(name: str) -> None:
    """A deployment of one process, as its folder and its mark show it."""
    ProcessRecord(settings().local / name / "components" / "frontend").start(("sleep", "60"), dict(os.environ))


def test_every_deployment_is_deleted(wideloop_home: Path) -> None:
    for name in ("one", "two"):
        started(name)
    delete_deployments()
    assert list(marked(wideloop_home)) == []
    assert [p.name for p in settings().local.glob("[!.]*")] == []


def test_one_that_cannot_be_deleted_is_said_and_shelters_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    deleted: list[str] = []

    class Elsewhere:
        def list_owned(self) -> list[Owned]:
            return [Owned(name=n, owner=None, created_at=None) for n in ("a-stuck", "b")]

        def delete(self, name: str) -> None:
            if name == "a-stuck":
                raise TargetError("does not answer")
            deleted.append(name)

    monkeypatch.setattr(run, "open_target", lambda name: Elsewhere())
    with pytest.raises(DemoError, match="a-stuck: does not answer"):
        delete_deployments()
    assert deleted == ["b"]


def ended() -> Mark:
    process = subprocess.Popen(["sleep", "60"])
    mark = Mark.of(process.pid)
    process.kill()
    process.wait()
    return mark


def test_the_record_of_a_demo_of_which_nothing_runs_is_forgotten(wideloop_home: Path) -> None:
    Running(ended(), ended(), 8080).write(wideloop_home)
    demo = Demo(AirflowHome(wideloop_home), settings(), Console(quiet=True))
    assert demo._left_behind() is None
    assert list(wideloop_home.glob("demo.json*")) == []


def test_an_airflow_that_outlived_its_command_is_taken_over(wideloop_home: Path) -> None:
    running = Running(ended(), Mark.of(os.getpid()), 8080)
    running.write(wideloop_home)
    assert Demo(AirflowHome(wideloop_home), settings(), Console(quiet=True))._left_behind() == running
    assert json.loads((wideloop_home / "demo.json").read_text())["port"] == 8080


def test_environments_that_cannot_be_made_end_the_demo_in_one_line(
    wideloop_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise SetupError("too little disk")

    monkeypatch.setattr("wideloop.operators.bootstrap.make", refuse)
    with pytest.raises(DemoError, match=r"^too little disk$"):
        Demo(AirflowHome(wideloop_home), settings(), Console(quiet=True)).run({}, serve=False)


def test_only_missing_environments_are_made_and_never_airflows(
    wideloop_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    monkeypatch.setattr("wideloop.operators.bootstrap.make", lambda missing, home: made.extend(e.name for e in missing))
    (wideloop_home / "venvs" / "simulated").mkdir(parents=True)
    checks.make_environments(wideloop_home)
    assert made == ["benchmark"]
