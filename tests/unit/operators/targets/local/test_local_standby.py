"""Servers that stand by, and servers that will die: what an engine's start and end cost on the local target."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.engines import ENGINES
from wideloop.manifests.engines.base import Command, Component, Site
from wideloop.operators.settings import Settings
from wideloop.operators.targets.local.target import LocalTarget

from tests.unit.operators.targets.fake_engine import FakeEngine, model, spec
from tests.unit.operators.targets.local_processes import OWNER, pids, settled, until

#: Becomes the command in the file it waits for; its process stays the same.
_WAIT = """
import json, os, sys, time
while not os.path.exists(sys.argv[1]):
    time.sleep(0.02)
order = json.load(open(sys.argv[1]))
os.execve(order["argv"][0], order["argv"], {**os.environ, **order["env"]})
"""


class Waiting(FakeEngine):
    def standby(self, spec: DeploymentSpec, component: Component, site: Site) -> Command | None:
        argv = (site.python, "-I", "-S", "-c", _WAIT, f"{site.work_dir}/order.json")
        return Command(argv=argv, env={"STOOD_BY": "yes"})

    def hand_over(self, site: Site, command: Command) -> tuple[str, str]:
        return f"{site.work_dir}/order.json", command.model_dump_json()

    def will_die(self, log: Sequence[str]) -> bool:
        return any("doomed" in line for line in log)


@pytest.fixture(autouse=True)
def waiting(home: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(ENGINES.registered, "fake", Waiting)
    yield


def test_a_standby_becomes_the_deployment_with_knobs_it_did_not_know(
    home: Settings, here: LocalTarget, tmp_path: Path
) -> None:
    folder = model(tmp_path / "m")
    here.stand_by(spec("one", folder), OWNER)
    before = pids(home, "one")
    assert set(before) == {"frontend", "decode-0"}
    assert here.status("one").state == "absent"
    here.apply(spec("one", folder, redundant=8), OWNER)
    assert settled(here, "one").state == "ready"
    assert pids(home, "one") == before
    assert here.spec("one").workers[0].knobs.redundant_experts == 8


def test_a_standby_for_another_image_is_replaced(home: Settings, here: LocalTarget, tmp_path: Path) -> None:
    folder = model(tmp_path / "m")
    here.stand_by(spec("one", folder).model_copy(update={"image": "sha256:other"}), OWNER)
    before = pids(home, "one")
    here.apply(spec("one", folder), OWNER)
    assert settled(here, "one").state == "ready"
    assert pids(home, "one") != before


def test_a_standby_that_died_is_replaced(home: Settings, here: LocalTarget, tmp_path: Path) -> None:
    import psutil

    folder = model(tmp_path / "m")
    here.stand_by(spec("one", folder), OWNER)
    keeper = psutil.Process(pids(home, "one")["decode-0"])
    until(keeper.children)
    for child in keeper.children(recursive=True):
        child.kill()
    until(lambda: (home.local / "one" / "components" / "decode-0" / "exit").exists())
    here.apply(spec("one", folder), OWNER)
    assert settled(here, "one").state == "ready"


def test_a_standby_holds_no_room_and_has_an_owner(home: Settings, here: LocalTarget, tmp_path: Path) -> None:
    folder = model(tmp_path / "m")
    here.apply(spec("one", folder), OWNER)
    here.stand_by(spec("two", folder), OWNER)
    assert {o.name: o.owner for o in here.list_owned()} == {"one": OWNER, "two": OWNER}
    assert settled(here, "one").state == "ready"
    here.delete("one")
    here.apply(spec("two", folder), OWNER)
    assert settled(here, "two").state == "ready"


def test_a_standby_that_is_not_needed_is_ended(home: Settings, here: LocalTarget, tmp_path: Path) -> None:
    here.stand_by(spec("one", model(tmp_path / "m")), OWNER)
    here.delete("one")
    assert here.list_owned() == []
    assert not (home.local / "one").exists()


def test_standing_by_for_a_deployment_that_runs_changes_nothing(
    home: Settings, here: LocalTarget, tmp_path: Path
) -> None:
    wanted = spec("one", model(tmp_path / "m"))
    here.apply(wanted, OWNER)
    before = pids(home, "one")
    here.stand_by(wanted, OWNER)
    assert pids(home, "one") == before
    assert settled(here, "one").state == "ready"


def test_an_engine_without_a_standby_starts_nothing(
    home: Settings, here: LocalTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENGINES.registered, "fake", FakeEngine)
    here.stand_by(spec("one", model(tmp_path / "m")), OWNER)
    assert here.list_owned() == []


def test_a_worker_that_will_die_is_not_waited_for(home: Settings, here: LocalTarget, tmp_path: Path) -> None:
    here.apply(spec("one", model(tmp_path / "m")), OWNER)
    assert settled(here, "one").state == "ready"
    log = home.local / "one" / "components" / "decode-0" / "log"
    with log.open("a") as file:
        file.write("CUDA out of memory\nthis process is doomed, dumping core for a minute\n")
    status = here.status("one")
    assert status.state == "failed" and status.diagnosis is not None
    assert (status.diagnosis.kind, status.diagnosis.component) == ("out_of_memory", "decode-0")
