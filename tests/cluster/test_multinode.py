"""Workers over several nodes on a real API server: how they come up, serve, fail and go."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable

import pytest
from wideloop.operators.airflow.triggers import TargetTrigger
from wideloop.operators.settings import settings
from wideloop.operators.steps import benchmark
from wideloop.operators.targets.kubernetes import cluster as shared
from wideloop.operators.targets.kubernetes import deployments
from wideloop.operators.targets.kubernetes import target as target_module
from wideloop.results.benchmark import read_levels

from tests.cluster.agent.faults import Fault
from tests.cluster.cluster import wait_for
from tests.cluster.place import OWNER, Place, empty_place, place  # noqa: F401 - fixtures

pytestmark = pytest.mark.cluster

#: Two prefill and two decode nodes of four GPUs.
PROFILE = "h200-16-4x4"
POOL = {"pool": "wide"}
WAIT_S = 240


@pytest.fixture
def wide(place: Place, add_nodes: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch) -> Place:  # noqa: F811
    """One whose workers ask for nodes of a pool; there are others."""
    add_nodes(PROFILE, **POOL)
    monkeypatch.setenv("WIDELOOP_CLUSTER__GPU_NODE_SELECTOR", json.dumps(POOL))
    settings.cache_clear()
    monkeypatch.setattr(deployments, "_GRACE_S", 1)
    monkeypatch.setattr(target_module, "LOOK_EVERY_S", 1)
    return place


async def fires(trigger: TargetTrigger) -> object:
    return await anext(aiter(trigger.run()))


def test_workers_over_several_nodes_come_up_are_measured_and_leave_nothing(wide: Place) -> None:
    wide.up(wide.spec(hardware=PROFILE))
    workers = wide.pods(deployment="one", component="prefill") + wide.pods(deployment="one", component="decode")
    nodes = json.loads(wide.kubectl("get", "nodes", "-l", "pool=wide", "-o", "json"))["items"]
    assert Counter(pod["spec"]["nodeName"] for pod in workers) == dict.fromkeys(
        (node["metadata"]["name"] for node in nodes), 1
    )
    asked = [pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] for pod in workers]
    assert asked == [node["status"]["allocatable"]["nvidia.com/gpu"] for node in nodes] == ["4"] * 4
    assert any("all 2 ranks are there" in line for line in wide.target.logs("one", "decode-0"))

    subject = wide.subject("one", isl=64, osl=8, requests_per_slot=2, warmup_requests=1)
    benchmark.begin(subject)
    wait_for(lambda: wide.target.client_status("one", subject.client).state != "running", WAIT_S, "the client's end")
    client = wide.target.client_status("one", subject.client)
    (level,) = read_levels(wide.target.collect("one", subject.client), subject.workload, client.log_tail)
    assert level.output_tok_s > 0 and level.errors == 0

    wide.target.delete("one")
    assert wide.left() == []


def test_a_group_that_is_made_anew_again_and_again_fails_with_the_last_lines_of_its_rank(wide: Place) -> None:
    said = "ValueError: rank 1 has no such device"
    with wide.agent.fault(Fault("exit", wide.namespace, "decode-0-0-1", code=3, message=said)):
        wide.target.apply(wide.spec(hardware=PROFILE), OWNER)
        asyncio.run(asyncio.wait_for(fires(TargetTrigger("dynamo", "one")), WAIT_S))
    shared._cluster.cache_clear()  # As another process, which has seen nothing of it.
    found = wide.target.status("one").diagnosis
    assert found is not None
    assert (found.kind, found.component) == ("crashed", "decode")
    # Its second end is in the pod that took its place or, where that is quicker, in the one that is being replaced.
    assert "status 3" in found.message
    assert found.log_tail[-1] == said
    wide.target.delete("one")
    assert wide.left() == []
