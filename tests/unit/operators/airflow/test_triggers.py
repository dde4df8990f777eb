from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import structlog.testing
import wideloop.operators.targets
from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.errors import ApiUnreachable
from wideloop.operators.airflow.benchmark import Benchmark
from wideloop.operators.airflow.triggers import TargetTrigger
from wideloop.operators.request import DEFAULTS, Request
from wideloop.operators.steps import benchmark
from wideloop.operators.targets.base import ClientStatus, Status

AWAY = ApiUnreachable("context x", "connection refused")


class Scripted:
    """A target that says one thing after the other; the last one stays."""

    patience_s = 60.0

    def __init__(self, *states: Any, client: str = "running") -> None:
        self._states = list(states)
        self._client = client
        self.looks = 0
        self.stopped: list[str] = []

    def status(self, name: str) -> Status:
        self.looks += 1
        state = self._states.pop(0) if len(self._states) > 1 else self._states[0]
        if isinstance(state, Exception):
            raise state
        return state if isinstance(state, Status) else Status(state=state)

    def spec(self, name: str) -> DeploymentSpec:
        return Request.from_params(DEFAULTS).spec(name)

    def client_status(self, name: str, client: str) -> ClientStatus:
        return ClientStatus(state=self._client)  # type: ignore[arg-type]

    def stop_client(self, name: str, client: str) -> None:
        self.stopped.append(client)

    async def changed(self, name: str, client: str | None = None) -> None:
        await asyncio.sleep(0)


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Scripted], Scripted]]:
    def use(target: Scripted) -> Scripted:
        for module in (wideloop.operators.targets, benchmark):
            monkeypatch.setattr(module, "open_target", lambda name: target)
        return target

    return use


async def fire(trigger: TargetTrigger) -> object:
    async for event in trigger.run():
        return event.payload
    return None


@pytest.mark.parametrize("end", ["ready", "failed", "absent"])
def test_it_fires_when_the_deployment_is_no_longer_pending(use: Any, end: str) -> None:
    target = use(Scripted("pending", "pending", end))
    assert asyncio.run(fire(TargetTrigger("dynamo", "one"))) == {"deployment": "one"}
    assert target.looks == 3


def test_a_wait_writes_one_line_for_each_change_of_state(use: Any) -> None:
    loading = Status(state="pending", reason="1 of 3 pods ready, 2 loading")
    pulling = Status(state="pending", reason="0 of 3 pods ready, 3 pulling or creating")
    use(Scripted(pulling, pulling, loading, loading, loading, "ready"))
    trigger = TargetTrigger("dynamo", "one", since=time.time() - 90)
    with structlog.testing.capture_logs() as logged:
        asyncio.run(fire(trigger))
    lines = [entry["event"] for entry in logged]
    assert [line.split(" (after")[0] for line in lines] == [
        "one is pending: 0 of 3 pods ready, 3 pulling or creating",
        "one is pending: 1 of 3 pods ready, 2 loading",
        "one is ready",
    ]
    assert "(after 90 s)" in lines[0]


def test_a_deferred_wait_goes_on_counting_and_takes_what_an_earlier_version_stored() -> None:
    trigger = TargetTrigger("dynamo", "one", "bench-1", since=5.0)
    _, stored = trigger.serialize()
    assert TargetTrigger(**stored).serialize()[1] == stored
    del stored["since"]
    assert TargetTrigger(**stored).since == pytest.approx(time.time(), abs=60)


def test_a_cluster_that_cannot_be_asked_has_not_ended_anything(use: Any) -> None:
    target = use(Scripted("pending", AWAY, AWAY, "ready"))
    assert asyncio.run(fire(TargetTrigger("dynamo", "one"))) == {"deployment": "one"}
    assert target.looks == 4


def test_a_deployment_that_fails_ends_the_wait_for_its_client(use: Any) -> None:
    target = use(Scripted("ready", "ready", "failed"))
    asyncio.run(fire(TargetTrigger("dynamo", "one", "bench-1")))
    assert target.looks == 3


def test_ending_a_wait_by_hand_ends_the_client_and_leaves_the_deployment_to_the_teardown(use: Any) -> None:
    target = use(Scripted("pending"))
    asyncio.run(TargetTrigger("dynamo", "one", "bench-1").on_kill())
    asyncio.run(TargetTrigger("dynamo", "one").on_kill())
    assert target.stopped == ["bench-1"]


class Killed(Exception):
    """What the task's process is in the middle of a wait."""


def test_ending_a_benchmark_by_hand_ends_the_client_that_it_waits_for(use: Any) -> None:
    target = use(Scripted("ready", Killed()))
    context: Any = {"params": DEFAULTS, "dag_run": SimpleNamespace(dag_id="wideep_benchmark", run_id="manual__1")}
    task = Benchmark(task_id="bench", deployment="one", waited={"state": "ready"})
    task.on_kill()
    assert target.stopped == [], "it has begun nothing"
    with pytest.raises(Killed):
        task.execute(context)
    task.on_kill()
    assert target.stopped == [task.subject(context).client]
