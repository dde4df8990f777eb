"""Deployments on this host, as real processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
from wideloop.manifests.clients.aiperf import Aiperf
from wideloop.manifests.errors import Refused, TargetBusy, TargetError
from wideloop.operators.settings import Settings
from wideloop.operators.targets.base import Owner
from wideloop.operators.targets.local.process import ProcessRecord, marked
from wideloop.operators.targets.local.state import State
from wideloop.operators.targets.local.target import LocalTarget

from tests.unit.operators.targets.fake_engine import model, spec
from tests.unit.operators.targets.local_processes import (
    KILL_BETWEEN_SPAWN_AND_RECORD,
    OWNER,
    applying,
    pids,
    running,
    settled,
    shell,
    until,
)

# ---- deployments


def test_a_deployment_that_answers_a_generation_is_ready(home: Settings, here: LocalTarget, tmp_path: Path) -> None:
    here.apply(spec("one", model(tmp_path / "m")), OWNER)
    assert settled(here, "one").state == "ready"
    assert here.endpoints("one").frontend.startswith("http://127.0.0.1:")
    assert set(here.endpoints("one").control) == {"decode-0"}
    assert here.spec("one") == spec("one", tmp_path / "m")
    asked = json.loads((home.local / "one/components/frontend/asked.json").read_text())
    assert asked["max_tokens"] == 2 and asked["messages"]


@pytest.mark.parametrize("behaviour", ["refuse", "tokenless", "mute"])
def test_an_open_port_is_not_readiness(here: LocalTarget, tmp_path: Path, behaviour: str) -> None:
    here.apply(spec("one", model(tmp_path / "m", frontend=behaviour)), OWNER)
    time.sleep(0.7)
    status = here.status("one")
    assert status.state == "pending"
    assert status.reason


def test_one_that_never_answers_has_failed_in_time(home: Settings, tmp_path: Path) -> None:
    here = LocalTarget(home, grace_s=5, start_timeout_s=0.5)
    here.apply(spec("one", model(tmp_path / "m", frontend="refuse")), OWNER)
    status = settled(here, "one")
    assert status.state == "failed"
    assert status.diagnosis is not None and status.diagnosis.kind == "timed_out"


def test_applying_again_starts_nothing(home: Settings, here: LocalTarget, tmp_path: Path) -> None:
    wanted = spec("one", model(tmp_path / "m"))
    here.apply(wanted, OWNER)
    before = pids(home, "one")
    LocalTarget(home).apply(wanted, OWNER)
    assert pids(home, "one") == before
    assert set(before) == {"frontend", "decode-0"}


def test_another_spec_under_the_same_name_replaces_it(home: Settings, here: LocalTarget, tmp_path: Path) -> None:
    folder = model(tmp_path / "m")
    here.apply(spec("one", folder), OWNER)
    settled(here, "one")
    before, processes = pids(home, "one"), running(home)
    here.apply(spec("one", folder, redundant=4), OWNER)
    assert not set(pids(home, "one").values()) & set(before.values())
    assert here.spec("one").workers[0].knobs.redundant_experts == 4
    assert settled(here, "one").state == "ready"
    assert running(home) == processes


def test_applying_again_replaces_one_that_has_died(home: Settings, here: LocalTarget, tmp_path: Path) -> None:
    wanted = spec("one", model(tmp_path / "m", decode_0="die"))
    here.apply(wanted, OWNER)
    until(lambda: here.status("one").state == "failed")
    model(tmp_path / "m")
    here.apply(wanted, OWNER)
    assert settled(here, "one").state == "ready"


def test_two_processes_that_apply_at_once_start_one_set(home: Settings, here: LocalTarget, tmp_path: Path) -> None:
    folder = model(tmp_path / "m")
    both = [applying(home, folder, "one") for _ in range(2)]
    assert [p.wait(30) for p in both] == [0, 0]
    assert settled(here, "one").state == "ready"
    by_component = [mark.name for process, mark in marked(home.local) if process.name() != "sh"]
    assert sorted(by_component) == ["decode-0", "frontend"]


def test_a_start_that_fails_leaves_nothing(home: Settings, here: LocalTarget, tmp_path: Path) -> None:
    shutil.rmtree(home.environments)
    with pytest.raises(TargetError, match="has not been built"):
        here.apply(spec("one", model(tmp_path / "m")), OWNER)
    assert not (home.local / "one").exists()
    assert here.list_owned() == []


def test_a_start_that_fails_half_way_leaves_nothing(
    home: Settings, here: LocalTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = ProcessRecord.start

    def second_fails(record: ProcessRecord, *rest: object) -> None:
        if record.folder.name != "frontend":
            raise OSError(12, "Cannot allocate memory")
        start(record, *rest)

    monkeypatch.setattr(ProcessRecord, "start", second_fails)
    with pytest.raises(TargetError, match="Cannot allocate memory"):
        here.apply(spec("one", model(tmp_path / "m")), OWNER)
    assert running(home) == 0
    assert not (home.local / "one").exists()


def test_an_applier_killed_between_start_and_record_leaves_no_second_set(
    home: Settings, here: LocalTarget, tmp_path: Path
) -> None:
    folder = model(tmp_path / "m")
    assert applying(home, folder, "one", KILL_BETWEEN_SPAWN_AND_RECORD).wait(30) == -signal.SIGKILL
    until(lambda: running(home) > 0)
    orphans = {p.pid for p, _ in marked(home.local)}
    assert pids(home, "one") == {}
    here.apply(spec("one", folder), OWNER)
    assert settled(here, "one").state == "ready"
    assert not orphans & {p.pid for p, _ in marked(home.local)}


def test_an_applier_killed_between_start_and_record_leaves_what_the_janitor_finds(
    home: Settings, here: LocalTarget, tmp_path: Path
) -> None:
    assert applying(home, model(tmp_path / "m"), "one", KILL_BETWEEN_SPAWN_AND_RECORD).wait(30) == -signal.SIGKILL
    assert [(o.name, o.owner) for o in here.list_owned()] == [("one", OWNER)]
    here.delete("one")
    assert running(home) == 0


# ---- one set of accelerators


def test_a_second_deployment_finds_the_first_one_and_leaves_nothing(
    home: Settings, here: LocalTarget, tmp_path: Path
) -> None:
    until_noon = datetime(2030, 1, 2, 12, tzinfo=UTC)
    keep = Owner(dag_id="wideep_deploy", run_id="manual__2", keep_until=until_noon)
    here.apply(spec("one", model(tmp_path / "m")), keep)
    with pytest.raises(TargetBusy) as busy:
        here.apply(spec("two", model(tmp_path / "m")), OWNER)
    assert (busy.value.name, busy.value.owner_run, busy.value.keep_until) == (
        "one", "wideep_deploy/manual__2", until_noon
    )  # fmt: skip
    for said in ("one", "wideep_deploy/manual__2", "2030-01-02 12:00 UTC", "action = down"):
        assert said in str(busy.value)
    assert [o.name for o in here.list_owned()] == ["one"]
    assert not (home.local / "two").exists()
    here.apply(spec("one", tmp_path / "m"), keep)
    here.delete("one")
    here.apply(spec("two", tmp_path / "m"), OWNER)
    assert settled(here, "two").state == "ready"


def test_two_processes_that_apply_different_names_at_once_start_one(
    home: Settings, here: LocalTarget, tmp_path: Path
) -> None:
    folder = model(tmp_path / "m")
    slowly = "import time, wideloop.operators.targets.local.launch as l; f = l.free_ports; "
    slowly += "l.free_ports = lambda *a: (time.sleep(1), f(*a))[1]"  # between the look and the first process
    both = {name: applying(home, folder, name, slowly) for name in ("one", "two")}
    ended = {name: process.wait(60) for name, process in both.items()}
    assert sorted(ended.values()) == [0, 3]
    (started,) = (name for name, code in ended.items() if code == 0)
    assert [o.name for o in here.list_owned()] == [started]
    assert settled(here, started).state == "ready"
    assert {mark.relative_to(home.local).parts[0] for _, mark in marked(home.local)} == {started}


def test_one_whose_processes_are_all_dead_holds_nothing(home: Settings, here: LocalTarget, tmp_path: Path) -> None:
    folder = model(tmp_path / "m", frontend="die", decode_0="die")
    here.apply(spec("one", folder), OWNER)
    until(lambda: running(home) == 0)
    here.apply(spec("two", model(tmp_path / "alive")), OWNER)
    assert settled(here, "two").state == "ready"
    assert here.status("one").state == "failed", "what became of it can still be read"


def test_one_of_which_a_part_lives_still_holds_them(home: Settings, here: LocalTarget, tmp_path: Path) -> None:
    here.apply(spec("one", model(tmp_path / "m", frontend="die")), OWNER)
    until(lambda: here.status("one").state == "failed")
    (home.local / "one" / "deployment.json").unlink()
    with pytest.raises(TargetBusy, match="one of an unknown run"):
        here.apply(spec("two", model(tmp_path / "alive")), OWNER)


def test_a_host_with_room_for_two_takes_two(roomy: LocalTarget, tmp_path: Path) -> None:
    folder = model(tmp_path / "m")
    for name in ("one", "two"):
        roomy.apply(spec(name, folder), OWNER)
    with pytest.raises(TargetBusy):
        roomy.apply(spec("three", folder), OWNER)


# ---- names


@pytest.mark.parametrize("name", ["../precious", "..", "", ".", "one/clients", "/etc", "One", "one_", "-one", "o" * 31])
def test_what_is_no_name_is_refused_before_it_is_a_path(
    home: Settings, here: LocalTarget, tmp_path: Path, name: str
) -> None:
    here.apply(spec("one", model(tmp_path / "m")), OWNER)
    precious = home.home / "precious" / "data"
    precious.mkdir(parents=True)
    by_deployment = (here.delete, here.status, here.endpoints, here.spec, lambda n: here.logs(n, "frontend"))
    for call in by_deployment:
        with pytest.raises(Refused) as refused:
            call(name)
        (finding,) = refused.value.findings
        assert (finding.field, finding.value) == ("deployment", name)
        assert "a-z" in finding.rule and finding.suggestion
    for call in (here.client_dir, here.stop_client, here.collect, here.client_status):
        with pytest.raises(Refused, match="client"):
            call("one", name)
    with pytest.raises(Refused, match="client"):
        here.run_client("one", name, shell("exit 0"), "benchmark")
    assert precious.is_dir()
    assert sorted(p.name for p in (home.local / ".locks").iterdir()) == [".all", "one"]


def test_a_link_in_the_place_of_a_deployment_is_not_followed(home: Settings, here: LocalTarget, tmp_path: Path) -> None:
    precious = tmp_path / "precious" / "data"
    precious.mkdir(parents=True)
    home.local.mkdir(parents=True)
    (home.local / "one").symlink_to(precious.parent, target_is_directory=True)
    with pytest.raises(Refused, match="is a link"):
        here.delete("one")
    with pytest.raises(Refused, match="is a link"):
        here.apply(spec("one", model(tmp_path / "m")), OWNER)
    assert here.list_owned() == []
    assert precious.is_dir()


def test_a_link_in_the_place_of_a_client_is_not_followed(home: Settings, served: LocalTarget, tmp_path: Path) -> None:
    precious = tmp_path / "precious" / "data"
    precious.mkdir(parents=True)
    (home.local / "one" / "clients").mkdir()
    (home.local / "one" / "clients" / "bench").symlink_to(precious.parent, target_is_directory=True)
    with pytest.raises(Refused, match="is a link"):
        served.stop_client("one", "bench")
    served.delete("one")
    assert precious.is_dir()


# ---- death and its reason


def test_a_dead_component_fails_the_deployment_with_its_last_lines(here: LocalTarget, tmp_path: Path) -> None:
    here.apply(spec("one", model(tmp_path / "m", decode_0="die")), OWNER)
    until(lambda: here.status("one").state == "failed")
    status = here.status("one")
    assert status.diagnosis is not None
    assert status.diagnosis.component == "decode-0"
    assert status.diagnosis.log_tail == ("loading weights", "lost my peer")
    assert here.logs("one", "decode-0", 1) == ("lost my peer",)


def test_one_that_says_why_it_died_wins_over_one_that_just_went_along(here: LocalTarget, tmp_path: Path) -> None:
    here.apply(spec("one", model(tmp_path / "m", frontend="die", decode_0="out-of-memory")), OWNER)
    until(lambda: not any(here.logs("one", c) == () for c in ("frontend", "decode-0")))
    until(lambda: here.status("one").diagnosis and here.status("one").diagnosis.component == "decode-0")
    diagnosis = here.status("one").diagnosis
    assert diagnosis is not None and diagnosis.kind == "out_of_memory"
    assert "-9" in diagnosis.message  # a status of 137 is signal 9


def test_a_death_after_readiness_is_seen(home: Settings, here: LocalTarget, tmp_path: Path) -> None:
    here.apply(spec("one", model(tmp_path / "m")), OWNER)
    assert settled(here, "one").state == "ready"
    os.kill(pids(home, "one")["decode-0"], signal.SIGKILL)
    until(lambda: here.status("one").state == "failed")


def test_a_stopped_worker_is_told_as_such_once_it_was_so_for_long(
    home: Settings, here: LocalTarget, tmp_path: Path
) -> None:
    here.apply(spec("one", model(tmp_path / "m")), OWNER)
    assert settled(here, "one").state == "ready"
    children = psutil.Process(pids(home, "one")["decode-0"]).children(recursive=True)
    worker = children[-1].pid if children else pids(home, "one")["decode-0"]
    os.kill(worker, signal.SIGSTOP)
    try:
        assert here.status("one").state == "ready"
        here.stopped_patience_s = 0.2
        until(lambda: here.status("one").state == "failed")
        diagnosis = here.status("one").diagnosis
        assert diagnosis is not None and (diagnosis.kind, diagnosis.component) == ("timed_out", "decode-0")
        assert "SIGSTOP" in diagnosis.message and f"kill -CONT {worker}" in diagnosis.action
    finally:
        os.kill(worker, signal.SIGCONT)
    until(lambda: here.status("one").state == "ready")


def test_a_deployment_that_is_not_there_is_absent(here: LocalTarget) -> None:
    assert here.status("one").state == "absent"
    with pytest.raises(TargetError, match="no deployment one"):
        here.endpoints("one")


# ---- removal


def test_deleting_ends_the_tree_and_removes_the_folder(home: Settings, roomy: LocalTarget, tmp_path: Path) -> None:
    roomy.apply(spec("one", model(tmp_path / "m")), OWNER)
    roomy.apply(spec("two", model(tmp_path / "m")), OWNER)
    settled(roomy, "two")
    roomy.delete("one")
    assert {mark.relative_to(home.local).parts[0] for _, mark in marked(home.local)} == {"two"}
    assert not (home.local / "one").exists()
    assert roomy.status("one").state == "absent"
    assert roomy.status("two").state == "ready"


def test_deleting_twice_is_fine(here: LocalTarget, tmp_path: Path) -> None:
    here.apply(spec("one", model(tmp_path / "m")), OWNER)
    here.delete("one")
    here.delete("one")
    here.delete("never-there")


def test_owned_deployments_are_listed_with_their_owner(roomy: LocalTarget, tmp_path: Path) -> None:
    keep = Owner(dag_id="wideep_deploy", run_id="manual__2", keep_until=datetime.now(UTC) + timedelta(hours=1))
    roomy.apply(spec("one", model(tmp_path / "m")), OWNER)
    roomy.apply(spec("two", model(tmp_path / "m")), keep)
    assert [(o.name, o.owner) for o in roomy.list_owned()] == [("one", OWNER), ("two", keep)]


def test_processes_whose_folder_was_lost_are_listed_and_deleted(
    home: Settings, here: LocalTarget, tmp_path: Path
) -> None:
    here.apply(spec("one", model(tmp_path / "m")), OWNER)
    shutil.rmtree(home.local / "one")
    until(lambda: [(o.name, o.owner) for o in here.list_owned()] == [("one", None)])
    here.delete("one")
    assert running(home) == 0
    assert here.list_owned() == []


def test_a_description_that_cannot_be_read_hides_nothing(home: Settings, roomy: LocalTarget, tmp_path: Path) -> None:
    roomy.apply(spec("one", model(tmp_path / "m")), OWNER)
    roomy.apply(spec("two", model(tmp_path / "m")), OWNER)
    (home.local / "one" / "deployment.json").write_text('{"of": "another version"}')
    assert {(o.name, o.owner) for o in roomy.list_owned()} == {("one", None), ("two", OWNER)}


def test_a_deployment_that_comes_up_while_one_looks_is_no_orphan(
    home: Settings, here: LocalTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = State.deployments
    wanted = spec("late", model(tmp_path / "m"))

    def then_another_comes(self: State) -> object:
        found = read(self)
        if State.deployments is then_another_comes:
            monkeypatch.setattr(State, "deployments", read)  # Applying looks at the deployments, too.
            here.apply(wanted, OWNER)
            until(lambda: running(home) > 1)
        return found

    monkeypatch.setattr(State, "deployments", then_another_comes)
    assert [o.name for o in LocalTarget(home).list_owned() if o.owner is None] == []


# ---- preflight


def test_preflight_names_what_is_missing_and_what_would_provide_it(
    home: Settings, here: LocalTarget, tmp_path: Path
) -> None:
    assert here.preflight(spec("one", model(tmp_path / "m")), Aiperf()) == []
    shutil.rmtree(home.environments)
    found = here.preflight(spec("one", tmp_path / "nowhere"), Aiperf())
    assert [(f.field, f.value) for f in found] == [
        ("model_path", str(tmp_path / "nowhere")), ("engine", "fake"), ("client", "aiperf")
    ]  # fmt: skip
    assert ["fake" in found[1].rule, "benchmark" in found[2].rule] == [True, True]
    assert all(f.suggestion and f.severity == "error" for f in found)
