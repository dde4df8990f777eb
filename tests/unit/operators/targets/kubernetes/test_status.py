from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wideloop.operators.request import Request
from wideloop.operators.targets.kubernetes import pods as pod_facts
from wideloop.operators.targets.kubernetes.diagnosis import looks_stuck
from wideloop.operators.targets.kubernetes.status import Judgement, judge
from wideloop.operators.targets.kubernetes.view import READY, View, about

from tests.unit.operators.targets.kubernetes.cluster_objects import (
    DYNAMO,
    NAME,
    NOW,
    at,
    event,
    exited,
    graph,
    pod,
    running_pod,
    unscheduled_pod,
    view,
    waiting_pod,
)

SPEC = Request.from_params({"target": "dynamo"}).spec(NAME)


def judged(seen: View, start_timeout_s: float = 600) -> Judgement:
    return judge(seen, SPEC, lambda pod, previous: (), start_timeout_s)


def answered(*pods: dict[str, Any], seconds: float = 42) -> dict[str, Any]:
    record = {"seconds": seconds, "pods": pod_facts.signature(pods)}
    return graph(ready=True, annotations={READY: json.dumps(record)})


def test_nothing_there_is_absent_and_so_is_what_is_being_deleted() -> None:
    assert judged(View(NAME, None, now=NOW, platform=DYNAMO)).state == "absent"
    assert judged(view(of=graph(deletionTimestamp=at(1)))).state == "absent"


def test_ready_needs_an_answered_generation() -> None:
    up = running_pod()
    assert judged(view(up, of=graph(ready=True))).state == "ask"
    assert judged(view(up, of=answered(up))) == Judgement("ready", start_seconds=42)


def test_pods_that_were_replaced_are_asked_anew() -> None:
    up, other = running_pod(), running_pod()
    assert judged(view(other, of=answered(up))).state == "ask"


def test_the_operators_word_about_an_older_graph_does_not_count() -> None:
    newer = graph(ready=True)
    newer["metadata"]["generation"] = 2
    assert judged(view(running_pod(), of=newer)).state == "pending"


def test_pending_says_which_pod_waits_for_what() -> None:
    verdict = judged(view(running_pod("frontend"), waiting_pod("ContainerCreating"), of=graph()))
    assert verdict.state == "pending"
    assert "1 of 2 pods ready" in verdict.reason
    assert "ContainerCreating" in verdict.reason


def test_pending_counts_pods_by_how_far_they_have_come() -> None:
    loading = running_pod("decode", name="d-1")
    loading["status"]["conditions"] = []
    unscheduled = unscheduled_pod("0/3 nodes are available", since=5)
    unscheduled["spec"].pop("nodeName", None)
    pods = (running_pod("frontend"), loading, waiting_pod("ContainerCreating", name="d-2"), unscheduled)
    verdict = judged(view(*pods, of=graph()))
    assert verdict.reason.startswith("1 of 4 pods ready, 1 not scheduled, 1 pulling or creating, 1 loading; ")


def test_a_start_that_takes_too_long_has_failed() -> None:
    slow = view(pod(state={"running": {}}, phase="Running"), of=graph(age=900))
    assert judged(slow, 1200).state == "pending"
    verdict = judged(slow, 600)
    assert verdict.diagnosis is not None
    assert verdict.diagnosis.kind == "timed_out"


def test_one_that_is_up_and_never_answers_has_failed() -> None:
    silent = view(running_pod(), of=graph(ready=True, age=2000, up_for=1000))
    verdict = judged(silent, 7200)
    assert verdict.diagnosis is not None
    assert (verdict.diagnosis.kind, verdict.diagnosis.component) == ("timed_out", "frontend")


@pytest.mark.parametrize(
    ("server", "said"),
    [
        (pod("files", state={"running": {}}, phase="Running"), "Running, not ready yet"),
        (running_pod("files", deletionTimestamp=at(1)), "its pod is gone"),
    ],
)
def test_one_whose_files_cannot_be_had_is_not_ready_for_a_benchmark(server: dict[str, Any], said: str) -> None:
    up = running_pod()
    verdict = judged(view(up, server, of=graph(ready=True)))
    assert verdict.state == "pending"
    assert said in verdict.reason
    # One that has begun its work goes on.
    assert judged(view(up, server, of=answered(up))).state == "ready"


def test_one_whose_files_can_never_be_had_has_failed() -> None:
    server = waiting_pod("ImagePullBackOff", "not found", component="files")
    verdict = judged(view(running_pod(), server, of=graph(ready=True)))
    assert verdict.diagnosis is not None
    assert (verdict.diagnosis.kind, verdict.diagnosis.component) == ("image_unavailable", "files")
    assert looks_stuck(view(running_pod(), pod("files", phase="Failed")), ())
    assert not looks_stuck(view(running_pod()), ())


def test_one_whose_pod_was_replaced_is_given_time_to_answer_anew() -> None:
    """Its operator has said for an hour that it is up, for it was; the new pod has been for a second."""
    of = answered(running_pod()) | {"status": graph(ready=True, up_for=3600)["status"]}
    assert judged(view(running_pod(ready_for=1), of=of), 7200).state == "ask"
    assert judged(view(running_pod(ready_for=1000), of=of), 7200).state == "failed"


def test_one_that_has_answered_may_come_back_however_old_it_is() -> None:
    up = running_pod()
    aged = answered(up)
    aged["metadata"]["creationTimestamp"] = at(10**6)
    aged["status"]["conditions"][0]["status"] = "False"
    assert judged(view(pod(state={"running": {}}, phase="Running"), of=aged)).state == "pending"


def test_the_pods_that_speak_are_the_leaders_in_the_order_of_their_groups() -> None:
    def lws(group: int, member: int) -> dict[str, Any]:
        marks = {
            "leaderworkerset.sigs.k8s.io/group-index": str(group),
            "leaderworkerset.sigs.k8s.io/worker-index": str(member),
        }
        return running_pod(name=f"x-{9 - group}-{member}", marks=marks)

    def grove(group: int, clique: str) -> dict[str, Any]:
        name = f"{NAME}-0-decode-{group}-decode-{clique}-x{9 - group}"
        return running_pod(name=name, marks={"grove.io/podcliquescalinggroup-replica-index": str(group)})

    two_groups = [lws(1, 0), lws(0, 1), lws(0, 0), lws(1, 1)]
    assert [p["metadata"]["name"] for p in DYNAMO.leaders(two_groups, "decode")] == ["x-9-0", "x-8-0"]
    cliques = [grove(1, "ldr"), grove(0, "wkr"), grove(0, "ldr"), grove(1, "wkr")]
    assert [p["metadata"]["name"] for p in DYNAMO.leaders(cliques, "decode")] == [
        f"{NAME}-0-decode-0-decode-ldr-x9",
        f"{NAME}-0-decode-1-decode-ldr-x8",
    ]
    for pods in (two_groups, cliques):
        first, second = DYNAMO.leaders(pods, "decode")
        members = [DYNAMO.group_of([*pods, running_pod("prefill")], leader) for leader in (first, second)]
        assert [len(m) for m in members] == [2, 2]
        assert members[0][0] is first and members[0][1] not in members[1]


def test_a_replica_on_one_node_has_no_other_pods() -> None:
    replicas = [running_pod(name=f"{NAME}-decode-{k}") for k in "abc"]
    assert DYNAMO.group_of(replicas, replicas[1]) == [replicas[1]]


@given(st.permutations(range(4)))
def test_the_signature_depends_on_the_pods_and_not_on_their_order(order: list[int]) -> None:
    pods = [running_pod(name=f"p{i}") for i in range(4)]
    assert pod_facts.signature(pods) == pod_facts.signature([pods[i] for i in order])
    restarted = [pod(name="p0", uid=pods[0]["metadata"]["uid"], state={"running": {}}, restarts=1), *pods[1:]]
    assert pod_facts.signature(restarted) != pod_facts.signature(pods)


def test_events_of_other_deployments_are_not_ours() -> None:
    names = [NAME, f"{NAME}-decode-abc", f"{NAME}1-decode", "baseline-10", "other"]
    of = graph(age=60)
    events = [event(n, "Failed", "", ago=10 - i) for i, n in enumerate(names)]
    assert [e["involvedObject"]["name"] for e in about(NAME, of, events)] == names[:2]


def test_events_of_an_earlier_deployment_of_that_name_are_not_ours() -> None:
    of = graph(age=60)
    assert about(NAME, of, [event(NAME, "FailedCreate", "", ago=61)]) == []


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (1, 1), (137, -9), (143, -15)])
def test_exit_codes_above_128_are_signals(code: int, expected: int) -> None:
    assert pod_facts.main_exit_code(pod(state={"terminated": exited(code)})) == expected
