from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.operators.targets.kubernetes import view, watch
from wideloop.operators.targets.kubernetes.api import Api
from wideloop.operators.targets.kubernetes.watch import Watch

from tests.unit.operators.targets.kubernetes.cluster_objects import DYNAMO, NAME, exited, graph, pod, running_pod
from tests.unit.operators.targets.kubernetes.scripted_api import (
    Reply,
    Script,
    answer,
    hang_up,
    refusal,
    serve,
    stream,
    write_kubeconfig,
)

OPTIONS = ClusterOptions(namespace="ns")
PODS = view.pods(OPTIONS)


def listed(*items: Any, version: str = "1") -> Reply:
    return answer(200, {"items": list(items), "metadata": {"resourceVersion": version}})


def event(kind: str, thing: Any, version: str = "2") -> dict[str, Any]:
    thing["metadata"]["resourceVersion"] = version
    return {"type": kind, "object": thing}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_BACKOFF_S", (0.05,))


class Stage:
    """A script in which graphs and Jobs are quiet, and pods do as the test says."""

    def __init__(self) -> None:
        self.script = Script()
        self.over = threading.Event()
        for path in (DYNAMO.roots(OPTIONS), view.jobs(OPTIONS), PODS):
            self.script.on("GET", path, listed(graph() if path == DYNAMO.roots(OPTIONS) else running_pod()))
            self.script.on("GET", f"{path}?watch", self.quiet())

    def quiet(self, *events: Any) -> Reply:
        return stream(*events, then=lambda: self.over.wait(20))

    def run(self, folder: Path, test: Callable[[Watch], Any]) -> None:
        with serve(self.script) as port:
            observed = Watch(
                Api(write_kubeconfig(folder / "kubeconfig", port), outage_s=0.2), OPTIONS, DYNAMO, linger_s=1.5
            )
            try:
                asyncio.run(test(observed))
            finally:
                self.over.set()
                for thread in observed._threads.values():
                    thread.join(20)


async def until(observed: Watch, wanted: Callable[[], Any], wait_s: float = 10.0) -> None:
    async def wait() -> None:
        while not wanted():
            await observed.changed(NAME, 1)
            observed.look(NAME)

    await asyncio.wait_for(wait(), wait_s)


def names(observed: Watch) -> list[str]:
    seen = observed.look(NAME)
    return sorted(p["metadata"]["name"] for p in seen.pods) if seen else []


def test_nothing_is_held_before_everything_was_listed(tmp_path: Path) -> None:
    stage = Stage()

    async def test(observed: Watch) -> None:
        assert observed.look(NAME) is None
        await until(observed, lambda: observed.look(NAME))

    stage.run(tmp_path, test)


def test_a_change_wakes_who_waits_for_that_deployment_and_nobody_else(tmp_path: Path) -> None:
    stage = Stage()
    go = threading.Event()
    other = running_pod(name="other-decode")
    other["metadata"]["labels"]["wideloop/deployment"] = "other"

    stage.script.on("GET", f"{PODS}?watch", stream(then=lambda: go.wait(10)), stage.quiet(event("MODIFIED", other)))

    async def test(observed: Watch) -> None:
        await until(observed, lambda: observed.synced)
        observed.look(NAME), observed.look("other")
        mine = asyncio.create_task(observed.changed(NAME, 3))
        theirs = asyncio.create_task(observed.changed("other", 30))
        await asyncio.sleep(0.1)
        go.set()
        await asyncio.wait_for(theirs, 10)
        assert not mine.done()
        await mine  # returns after its three seconds

    stage.run(tmp_path, test)


def test_a_change_between_a_look_and_the_wait_is_not_missed(tmp_path: Path) -> None:
    stage = Stage()

    async def test(observed: Watch) -> None:
        await until(observed, lambda: observed.synced)
        observed.look(NAME)
        observed._take("pods", event("MODIFIED", running_pod()))
        await asyncio.wait_for(observed.changed(NAME, 60), 5)

    stage.run(tmp_path, test)


@pytest.mark.parametrize(
    "gone",
    [
        pytest.param(refusal(410, "Expired", "too old resource version"), id="refused"),
        pytest.param(
            stream({"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old"}}), id="as an event"
        ),
    ],
)
def test_a_version_that_is_too_old_is_listed_anew(tmp_path: Path, gone: Reply) -> None:
    stage = Stage()
    stage.script.on("GET", PODS, listed(running_pod(name="a")), listed(running_pod(name="b"), version="9"))
    stage.script.on("GET", f"{PODS}?watch", gone, stage.quiet())

    async def test(observed: Watch) -> None:
        await until(observed, lambda: names(observed) == ["b"])

    stage.run(tmp_path, test)


def test_a_dropped_connection_goes_on_where_it_was(tmp_path: Path) -> None:
    stage = Stage()
    first, second = running_pod(name="a"), running_pod(name="b")
    stage.script.on("GET", PODS, listed())
    stage.script.on(
        "GET", f"{PODS}?watch", stream(event("ADDED", first)), hang_up, stage.quiet(event("ADDED", second, "3"))
    )

    async def test(observed: Watch) -> None:
        await until(observed, lambda: names(observed) == ["a", "b"])

    stage.run(tmp_path, test)
    assert stage.script.times(PODS) == 1


def test_what_is_deleted_is_forgotten(tmp_path: Path) -> None:
    stage = Stage()
    running = running_pod(name="a")
    stage.script.on("GET", PODS, listed(running))
    stage.script.on("GET", f"{PODS}?watch", stage.quiet(event("DELETED", running)))

    async def test(observed: Watch) -> None:
        await until(observed, lambda: observed.synced and names(observed) == [])

    stage.run(tmp_path, test)


def test_a_pod_that_had_ended_is_remembered_when_it_goes(tmp_path: Path) -> None:
    stage = Stage()
    ended, other = pod(name="a", state={"running": {}}, last=exited(3), restarts=1), running_pod(name="b")
    stage.script.on("GET", PODS, listed(ended, other))
    stage.script.on("GET", f"{PODS}?watch", stage.quiet(event("DELETED", ended), event("DELETED", other, "3")))

    async def test(observed: Watch) -> None:
        await until(observed, lambda: observed.synced and names(observed) == [])
        seen = observed.look(NAME)
        assert seen is not None
        assert [p["metadata"]["name"] for p in seen.gone] == ["a"]
        observed._take("roots", event("DELETED", graph(), "4"))
        observed._take("roots", event("ADDED", graph(), "5"))
        seen = observed.look(NAME)
        assert seen is not None and seen.gone == ()

    stage.run(tmp_path, test)


def test_a_server_that_is_away_is_waited_for(tmp_path: Path) -> None:
    stage = Stage()
    stage.script.on("GET", PODS, *[refusal(503, "ServiceUnavailable")] * 4, listed(running_pod(name="a")))

    async def test(observed: Watch) -> None:
        await until(observed, lambda: names(observed) == ["a"])

    stage.run(tmp_path, test)


def test_fifty_who_wait_cost_what_one_costs(tmp_path: Path) -> None:
    stage = Stage()

    async def test(observed: Watch) -> None:
        await until(observed, lambda: observed.synced)
        await asyncio.gather(*(observed.changed(f"d-{i}", 0.5) for i in range(50)))
        assert len(stage.script.asked) == 6  # a list and a watch for each of three kinds

    stage.run(tmp_path, test)


def test_versions_that_are_always_too_old_are_not_listed_in_a_loop(tmp_path: Path) -> None:
    stage = Stage()
    stage.script.on("GET", f"{PODS}?watch", refusal(410, "Expired", "too old resource version"))

    async def test(observed: Watch) -> None:
        await observed.changed(NAME, 1)
        begun = stage.script.times(PODS)
        await asyncio.sleep(1)
        assert 0 < stage.script.times(PODS) - begun <= 20  # one each 0.05 s, see ``quick``

    stage.run(tmp_path, test)
