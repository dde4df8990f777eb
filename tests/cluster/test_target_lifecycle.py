"""A deployment's whole life on a real API server, its pods running the simulated engine for real."""

from __future__ import annotations

import json

import pytest
from wideloop.manifests.engines import get_engine
from wideloop.manifests.errors import TargetError
from wideloop.operators.steps import benchmark
from wideloop.results.benchmark import read_levels

from tests.cluster.cluster import wait_for
from tests.cluster.place import OWNER, START_S, Place, empty_place, place  # noqa: F401 - fixtures
from tests.patience import PATIENCE

pytestmark = pytest.mark.cluster


def test_a_deployment_comes_up_is_measured_and_leaves_nothing(place: Place) -> None:  # noqa: F811
    spec = place.spec().model_copy(update={"record_experts": "stat"})
    place.target.apply(spec, OWNER)
    assert place.target.status("one").state == "pending"
    place.wait_ready("one")
    status = place.target.status("one")
    assert status.start_seconds is not None and 0 <= status.start_seconds < START_S * PATIENCE

    subject = place.subject("one").model_copy(update={"record": True})
    benchmark.begin(subject)
    assert place.target.client_status("one", subject.client).state == "running"
    benchmark.begin(subject)  # a retry finds it running
    wait_for(lambda: place.target.client_status("one", subject.client).state != "running", 120, "the client's end")
    client = place.target.client_status("one", subject.client)
    assert (client.state, client.exit_code) == ("succeeded", 0) and client.seconds > 0, client
    (level,) = read_levels(place.target.collect("one", subject.client), subject.workload, client.log_tail)
    assert level.output_tok_s > 0 and level.errors == 0

    engine = get_engine(spec.engine)
    place.target.call("one", "decode-0", engine.recorder.stop_path)
    place.target.call("one", "decode-0", engine.recorder.dump_path)
    (recording,) = place.target.recordings("one", "decode-0")
    assert recording.stat().st_size > 0
    assert place.target.recordings("one", "prefill-0") == []
    assert any("SIMULATED" in line for line in place.target.logs("one", "decode-0"))
    with pytest.raises(TargetError, match=r"no pod for decode-1"):
        place.target.logs("one", "decode-1")

    place.target.delete("one")
    assert place.left() == []
    assert place.target.status("one").state == "absent"
    assert place.target.list_owned() == []


def test_applying_again_changes_nothing_and_another_spec_replaces_it(place: Place) -> None:  # noqa: F811
    place.up(place.spec())
    (owned,) = place.target.list_owned()
    assert (owned.name, owned.owner) == ("one", OWNER)
    before = [pod["metadata"]["uid"] for pod in place.pods(deployment="one")]
    place.target.apply(place.spec(), OWNER)
    assert place.target.status("one").state == "ready"
    assert [pod["metadata"]["uid"] for pod in place.pods(deployment="one")] == before

    other = place.spec(mem_fraction_static=0.8)
    place.up(other)
    assert place.target.spec("one") == other
    assert not set(before) & {pod["metadata"]["uid"] for pod in place.pods(deployment="one")}
    place.target.delete("one")
    place.target.delete("one")
    assert place.left() == []


def test_an_object_of_somebody_else_is_never_touched(place: Place) -> None:  # noqa: F811
    foreign = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one-config"}, "data": {"theirs": "yes"}}
    place.kubectl("create", "-f", "-", stdin=json.dumps(foreign))
    with pytest.raises(TargetError, match=r"ConfigMap one-config .* is not ours"):
        place.target.apply(place.spec(), OWNER)
    wait_for(lambda: place.left() == [], what="nothing of ours is left")
    place.target.delete("one")
    kept = json.loads(place.kubectl("get", "configmap", "one-config", "-o", "json"))
    assert kept["data"] == {"theirs": "yes"} and "labels" not in kept["metadata"]


def test_a_graph_of_somebody_else_is_not_deleted(place: Place) -> None:  # noqa: F811
    place.up(place.spec())
    place.kubectl("label", "dynamographdeployment", "one", "app.kubernetes.io/managed-by-")
    for act in (lambda: place.target.delete("one"), lambda: place.target.apply(place.spec(), OWNER)):
        with pytest.raises(TargetError, match=r"DynamoGraphDeployment one .* is not ours"):
            act()
    assert place.pods(deployment="one", component="decode")
    place.kubectl("delete", "dynamographdeployment", "one")
