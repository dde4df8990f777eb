"""Waits that go through what clusters do: an API server that is killed, pods that are deleted, many at once."""

from __future__ import annotations

import asyncio
import time

import pytest
from wideloop.operators.airflow.triggers import TargetTrigger
from wideloop.operators.steps import benchmark
from wideloop.operators.targets import open_target
from wideloop.operators.targets.dynamo import DynamoTarget
from wideloop.operators.targets.kubernetes import pod_start, watch
from wideloop.operators.targets.kubernetes import target as target_module

from tests.cluster.cluster import wait_for
from tests.cluster.place import OWNER, Place, empty_place, place  # noqa: F401 - fixtures

pytestmark = pytest.mark.cluster

WAIT_S = 120


async def fires(trigger: TargetTrigger) -> object:
    async for event in trigger.run():
        return event
    return None


def requests(where: DynamoTarget) -> int:
    return where._cluster.api.requests


def test_a_wait_outlives_the_api_server(place: Place) -> None:  # noqa: F811
    plane = place.cluster.own
    assert plane is not None

    async def wait() -> None:
        waiting = asyncio.create_task(fires(TargetTrigger("dynamo", "one")))
        await asyncio.to_thread(wait_for, lambda: place.target._cluster.watch.synced, 20, "the watch")
        await asyncio.to_thread(plane.restart_apiserver, down_s=3)
        assert not waiting.done()
        place.cluster.kubectl("uncordon", *nodes)
        await asyncio.wait_for(waiting, WAIT_S)

    # Nodes that take no pods yet keep it from becoming ready while the API server is away.
    nodes = place.cluster.kubectl("get", "nodes", "-o", "name").split()
    place.cluster.kubectl("cordon", *nodes)
    place.target.apply(place.spec(), OWNER)
    asyncio.run(wait())
    assert place.target.status("one").state == "ready"
    place.target.delete("one")
    assert place.left() == []


def test_a_pod_deleted_in_mid_benchmark_fails_the_client_and_not_the_deployment(place: Place) -> None:  # noqa: F811
    place.up(place.spec())
    subject = place.subject("one", requests_per_slot=40)
    benchmark.begin(subject)
    wait_for(lambda: place.target.client_status("one", subject.client).seconds > 1, 60, "the client runs")
    (pod,) = place.pods(deployment="one", component="decode")
    place.kubectl("delete", "pod", pod["metadata"]["name"], "--wait=false", "--grace-period=1")

    def failed() -> bool:
        return place.target.client_status("one", subject.client).state == "failed"

    wait_for(failed, 30, "the client counts as failed")
    (said,) = place.target.client_status("one", subject.client).log_tail
    assert "replaced or restarted" in said
    place.target.stop_client("one", subject.client)
    assert place.target.client_status("one", subject.client).state == "absent"
    # A retry of the task finds the deployment as good as before.
    place.wait_ready("one")
    benchmark.begin(place.subject("one"))
    subject = place.subject("one")
    wait_for(lambda: place.target.client_status("one", subject.client).state != "running", WAIT_S, "the client's end")
    assert place.target.client_status("one", subject.client).state == "succeeded"
    place.target.delete("one")
    assert place.left() == []


def test_a_client_pod_that_is_deleted_is_a_client_that_failed(place: Place) -> None:  # noqa: F811
    place.up(place.spec())
    subject = place.subject("one", requests_per_slot=40)
    benchmark.begin(subject)
    (pod,) = wait_for(lambda: place.pods(deployment="one", client=subject.client), 30, "the client's pod")
    place.kubectl("delete", "pod", pod["metadata"]["name"], "--wait=false", "--grace-period=1")
    client = wait_for(lambda: ended(place, subject.client), 60, "the client's end")
    assert client.state == "failed" and client.log_tail
    place.target.delete("one")
    assert place.left() == []


def ended(place: Place, name: str) -> object:  # noqa: F811
    client = place.target.client_status("one", name)
    return client if client.state != "running" else None


def test_twenty_that_wait_ask_at_most_six_times_a_minute_each(
    empty_place: Place,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing can be scheduled here, so that they all wait on, and look for the reason as often as they ever do.

    What they do at intervals they do ten times as often here, to be seen in a tenth of the time.
    """
    count, seconds, hurry = 20, 9.0, 10
    monkeypatch.setattr(target_module, "LOOK_EVERY_S", target_module.LOOK_EVERY_S / hurry)
    monkeypatch.setattr(watch, "_ROUND_S", watch._ROUND_S // hurry)
    monkeypatch.setattr(target_module, "looks_stuck", lambda seen, roles: True)
    monkeypatch.setattr(pod_start, "GRACE_S", 3600.0)
    names = [f"many-{k}" for k in range(count)]
    target = open_target("dynamo")
    assert isinstance(target, DynamoTarget)
    for name in names:
        target.apply(empty_place.spec(name), OWNER)

    async def wait() -> float:
        waiting = [asyncio.create_task(fires(TargetTrigger("dynamo", name))) for name in names]
        await asyncio.to_thread(wait_for, lambda: target._cluster.watch.synced, 30, "the watch")
        before, began = requests(target), time.monotonic()
        await asyncio.sleep(seconds)
        assert not [task for task in waiting if task.done()]
        for task in waiting:
            task.cancel()
        return (requests(target) - before) * 60 / (time.monotonic() - began) / count / hurry

    per_minute = asyncio.run(wait())
    assert per_minute <= 6, per_minute
    for name in names:
        target.delete(name)
    assert empty_place.left() == []
