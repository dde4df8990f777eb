"""The janitor, with real deployments on this host."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from wideloop.manifests.engines import ENGINES
from wideloop.manifests.errors import TargetError
from wideloop.operators.settings import settings
from wideloop.operators.steps import janitor, run
from wideloop.operators.steps.janitor import remove_orphans
from wideloop.operators.targets import configured_targets, open_target
from wideloop.operators.targets.base import Owner
from wideloop.operators.targets.local.process import end_marked, marked

from tests.unit.operators.targets import fake_engine


@pytest.fixture
def apply(wideloop_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    monkeypatch.setitem(ENGINES.registered, "fake", fake_engine.FakeEngine)
    monkeypatch.setenv("WIDELOOP_LOCAL_DEPLOYMENTS", "3")
    fake_engine.environment(settings())
    folder = fake_engine.model(wideloop_home / "model")

    def apply(name: str, run_id: str, keep_until: datetime | None = None, installation: str = "") -> None:
        owner = Owner(dag_id="wideep_trial", run_id=run_id, installation=installation, keep_until=keep_until)
        open_target("local").apply(fake_engine.spec(name, folder), owner)

    yield apply
    end_marked(settings().local, grace_s=0)


def live(dag_id: str, run_id: str) -> bool:
    return (dag_id, run_id) == ("wideep_trial", "live")


def names() -> list[str]:
    return [o.name for o in open_target("local").list_owned()]


def test_it_deletes_what_no_live_run_owns_and_nothing_else(apply) -> None:
    apply("of-live", "live")
    apply("of-dead", "dead")
    assert remove_orphans(live) == ["local/of-dead"]
    assert names() == ["of-live"]
    assert {mark.relative_to(settings().local).parts[0] for _, mark in marked(settings().local)} == {"of-live"}
    assert remove_orphans(live) == []


def test_one_that_is_to_stay_stays_until_its_time_is_up(apply) -> None:
    now = datetime.now(UTC)
    apply("kept", "dead", keep_until=now + timedelta(hours=1))
    apply("over", "dead", keep_until=now - timedelta(seconds=1))
    # Its run still uses it.
    apply("in-use", "live", keep_until=now - timedelta(seconds=1))
    assert remove_orphans(live) == ["local/over"]
    assert names() == ["in-use", "kept"]


def test_it_removes_processes_that_only_their_mark_still_names(apply) -> None:
    apply("lost", "live")
    shutil.rmtree(settings().local / "lost")
    assert remove_orphans(live) == ["local/lost"]
    assert list(marked(settings().local)) == []


def test_one_that_cannot_be_deleted_does_not_shelter_the_others(apply, monkeypatch: pytest.MonkeyPatch) -> None:
    apply("a-stuck", "dead")
    apply("b-dead", "dead")
    target = type(open_target("local"))
    delete = target.delete

    def stuck(self: object, name: str) -> None:
        if name == "a-stuck":
            raise TimeoutError("hangs in the kernel")
        delete(self, name)

    with monkeypatch.context() as patch:
        patch.setattr(target, "delete", stuck)
        with pytest.raises(TargetError, match=r"b-dead.*not local/a-stuck: hangs in the kernel"):
            remove_orphans(live)
    assert names() == ["a-stuck"]


def test_a_target_that_does_not_answer_does_not_shelter_the_others(apply, monkeypatch: pytest.MonkeyPatch) -> None:
    apply("mine", "dead")
    local = open_target("local")

    class Silent:
        def list_owned(self) -> list[object]:
            raise TargetError("the API server does not answer")

    monkeypatch.setattr(janitor, "configured_targets", lambda: ("dynamo", "local"))
    monkeypatch.setattr(janitor, "open_target", lambda name: local if name == "local" else Silent())
    with pytest.raises(TargetError, match=r"local/mine.* but not dynamo: the API server does not answer"):
        remove_orphans(live)
    assert local.list_owned() == []


def test_a_cluster_is_visited_only_where_one_is_known(wideloop_home, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    assert configured_targets() == ("local",)
    (tmp_path / "config").touch()
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    assert configured_targets() == ("dynamo", "local")


def test_what_another_installation_deployed_is_left_to_it(apply) -> None:
    apply("theirs", "dead", installation="somebody")
    apply("mine", "dead", installation=run.installation())
    assert remove_orphans(live) == ["local/mine"]
    assert names() == ["theirs"]
