from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from wideloop.manifests.diagnosis import Diagnosis
from wideloop.manifests.engines import get_engine
from wideloop.operators.targets.kubernetes.api import Api
from wideloop.operators.targets.kubernetes.diagnosis import client_looks_stuck, diagnose, diagnose_client, looks_stuck
from wideloop.operators.targets.kubernetes.pod_start import start_failure
from wideloop.operators.targets.kubernetes.view import READY, View, with_nodes

from tests.unit.operators.targets.kubernetes.cluster_objects import (
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
from tests.unit.operators.targets.kubernetes.scripted_api import Script, answer, refusal, serve, write_kubeconfig

ROLES = ("frontend", "decode")
UNHEALTHY = "Allocate failed due to no healthy devices present; cannot allocate unhealthy devices nvidia.com/gpu"
NO_GPUS = "0/4 nodes are available: 4 Insufficient nvidia.com/gpu. preemption: not helpful."


def found(seen: View, log: tuple[str, ...] = ()) -> Diagnosis | None:
    return diagnose(seen, get_engine("simulated"), ROLES, lambda pod, previous: log)


@pytest.mark.parametrize(
    ("broken", "kind", "message", "action"),
    [
        pytest.param(
            waiting_pod("ImagePullBackOff", 'Back-off pulling image "r/x:1": not found'),
            "image_unavailable",
            "r/x:1",
            "wideep_image",
            id="image not built",
        ),
        pytest.param(
            waiting_pod("ErrImagePull", "401 unauthorized"),
            "image_unavailable",
            "unauthorized",
            "PULL_SECRET",
            id="login",
        ),
        pytest.param(
            waiting_pod("ImagePullBackOff", "dial tcp: i/o timeout", age=400),
            "image_unavailable",
            "timeout",
            "WIDELOOP_CLUSTER__IMAGE_PULL_SECRET",
            id="registry away for long",
        ),
        pytest.param(
            waiting_pod("CreateContainerConfigError", 'secret "hf-token-secret" not found'),
            "bad_configuration",
            "hf-token-secret",
            "secret",
            id="secret missing",
        ),
        pytest.param(unscheduled_pod(NO_GPUS, since=120), "unschedulable", "nvidia.com/gpu", "profile", id="GPUs"),
        pytest.param(
            unscheduled_pod("0/2 nodes are available: 2 Insufficient rdma/ib.", since=120),
            "unschedulable",
            "rdma/ib",
            "RDMA_RESOURCE",
            id="RDMA",
        ),
        pytest.param(
            unscheduled_pod(
                "0/5 nodes are available: 3 Insufficient nvidia.com/gpu, 5 Insufficient rdma/ib.", since=120
            ),
            "unschedulable",
            "rdma/ib",
            "RDMA_RESOURCE",
            id="RDMA, and nodes without GPUs",
        ),
        pytest.param(
            unscheduled_pod(
                "0/5 nodes are available: 3 Insufficient rdma/ib, 5 Insufficient nvidia.com/gpu.", since=120
            ),
            "unschedulable",
            "nvidia.com/gpu",
            "Free GPUs",
            id="GPUs, and nodes without RDMA",
        ),
        pytest.param(
            unscheduled_pod("0/2 nodes are available: 2 node(s) had untolerated taint {team: a}.", since=120),
            "unschedulable",
            "team: a",
            "TOLERATIONS",
            id="taint",
        ),
        pytest.param(
            unscheduled_pod("0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.", since=120),
            "unschedulable",
            "selector",
            "GPU_NODE_SELECTOR",
            id="selector",
        ),
        pytest.param(
            unscheduled_pod('0/2 nodes are available: persistentvolumeclaim "model-cache" not found.', since=120),
            "storage_unavailable",
            "model-cache",
            "wideep_weights",
            id="claim missing",
        ),
        pytest.param(
            unscheduled_pod("pod has unbound immediate PersistentVolumeClaims", since=120),
            "storage_unavailable",
            "unbound",
            "storage class",
            id="claim pending",
        ),
        pytest.param(
            unscheduled_pod(
                "Scheduling is blocked due to non-empty scheduling gates", since=3700, reason="SchedulingGated"
            ),
            "unschedulable",
            "gate",
            "GROVE=false",
            id="gate",
        ),
        pytest.param(
            pod(state={"waiting": {"reason": "CrashLoopBackOff"}}, last=exited(1), restarts=1),
            "crashed",
            "status 1",
            "log",
            id="crash loop",
        ),
        pytest.param(
            pod(state={"terminated": exited(137, "OOMKilled")}, phase="Running"),
            "bad_configuration",
            "64Gi",
            "WORKER_MEMORY",
            id="host memory",
        ),
        pytest.param(
            pod(phase="Failed") | {"status": {"phase": "Failed", "reason": "Evicted", "message": "disk pressure"}},
            "crashed",
            "disk pressure",
            "PRIORITY_CLASS",
            id="evicted",
        ),
        pytest.param(
            pod() | {"status": {"phase": "Failed", "reason": "UnexpectedAdmissionError", "message": UNHEALTHY}},
            "node_lost",
            "node-1 did not run it: UnexpectedAdmissionError: Allocate failed",
            "nvidia-smi",
            id="GPU gone",
        ),
    ],
)
def test_a_pod_that_will_never_run_is_told_apart(broken: dict[str, Any], kind: str, message: str, action: str) -> None:
    diagnosis = found(view(running_pod("frontend"), broken))
    assert diagnosis is not None
    assert (diagnosis.kind, diagnosis.component) == (kind, "decode")
    assert message in diagnosis.message
    assert action in diagnosis.action


def test_a_pod_that_a_node_refused_is_no_matter_once_another_has_come() -> None:
    refused = pod(age=30) | {"status": {"phase": "Failed", "reason": "UnexpectedAdmissionError", "message": UNHEALTHY}}
    assert found(view(running_pod("frontend"), refused, running_pod(age=29, name="another"))) is None
    for other in (running_pod(age=31, name="earlier"), running_pod("prefill", age=29)):
        diagnosis = found(view(running_pod("frontend"), refused, other))
        assert diagnosis is not None and diagnosis.kind == "node_lost"


@pytest.mark.parametrize(
    "passing",
    [
        pytest.param(unscheduled_pod(NO_GPUS, since=20), id="just asked"),
        pytest.param(waiting_pod("ErrImagePull", "dial tcp: i/o timeout"), id="registry away"),
        pytest.param(waiting_pod("ContainerCreating", age=600), id="pulling a large image"),
        pytest.param(pod(state={"running": {}}, last=exited(1), restarts=1, phase="Running"), id="up again"),
        pytest.param(running_pod(), id="runs"),
    ],
)
def test_what_may_pass_is_waited_for(passing: dict[str, Any]) -> None:
    assert found(view(passing, events=[])) is None


def test_nodes_that_are_being_added_are_waited_for() -> None:
    stuck = unscheduled_pod(NO_GPUS, since=300)
    help_comes = event(stuck["metadata"]["name"], "TriggeredScaleUp", "pod triggered scale-up: [{gpu-pool 0->2}]")
    assert found(view(stuck, events=[help_comes])) is None
    assert found(view(stuck, events=[])) is not None


def test_out_of_memory_is_read_off_the_log_before_the_container_is_tried_again() -> None:
    log = ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of "
           "79 GiB of which 512.00 MiB is free.",)  # fmt: skip
    diagnosis = found(view(pod(state={"terminated": exited(137)}, phase="Running")), log)
    assert diagnosis is not None
    assert diagnosis.kind == "out_of_memory"
    assert diagnosis.deficit_gib == pytest.approx(1.5)


def test_the_log_of_the_run_that_ended_is_read() -> None:
    asked = []

    def read_log(pod: dict[str, Any], previous: bool) -> tuple[str, ...]:
        asked.append(previous)
        return ()

    engine = get_engine("simulated")
    diagnose(view(pod(state={"terminated": exited(1)}, phase="Running")), engine, (), read_log)
    again = pod(state={"running": {}}, last=exited(1), restarts=2, phase="Running")
    diagnose(view(again), engine, (), read_log)
    assert asked == [False, True]


def test_a_signal_is_handed_to_the_engine_as_such() -> None:
    diagnosis = found(view(pod(state={"waiting": {"reason": "CrashLoopBackOff"}}, last=exited(139), restarts=3)))
    assert diagnosis is not None
    assert "signal 11" in diagnosis.message


def test_a_probe_that_gave_up_is_named() -> None:
    killed = pod(state={"running": {}}, last=exited(137), restarts=1, phase="Running")
    said = event(killed["metadata"]["name"], "Killing", "Container main failed startup probe, will be restarted")
    diagnosis = found(view(killed, events=[said]), ("loading shard 12 of 163",))
    assert diagnosis is not None
    assert diagnosis.kind == "timed_out"
    assert diagnosis.log_tail == ("loading shard 12 of 163",)


def test_a_probe_that_gave_up_on_an_engine_with_a_cause_names_the_cause() -> None:
    killed = pod(state={"running": {}}, last=exited(137), restarts=1, phase="Running")
    said = event(killed["metadata"]["name"], "Killing", "Container main failed liveness probe, will be restarted")
    diagnosis = found(view(killed, events=[said]), ("RuntimeError: DeepEP error: timeout (dispatch CPU)",))
    assert diagnosis is not None and "DeepEP" in diagnosis.message


def test_volumes_that_cannot_be_mounted_are_named() -> None:
    creating = waiting_pod("ContainerCreating", age=100)
    said = event(creating["metadata"]["name"], "FailedMount", "mount failed: permission denied")
    diagnosis = found(view(creating, events=[said]))
    assert diagnosis is not None
    assert diagnosis.kind == "storage_unavailable"


@pytest.mark.parametrize(
    "later",
    [
        pytest.param(("Pulling", "Pulling image r/x:1", 90.0), id="the image is being pulled"),
        pytest.param(("Scheduled", "", 200.0), id="no complaint for minutes"),
    ],
)
def test_volumes_that_were_mounted_at_the_second_try_are_no_trouble(later: tuple[str, str, float]) -> None:
    creating = waiting_pod("ContainerCreating", age=400)
    name = creating["metadata"]["name"]
    reason, message, ago = later
    missed = event(name, "FailedMount", 'configmap "baseline-1-config" not found', ago=max(ago, 95))
    said = [missed, event(name, reason, message, ago=ago)]
    assert found(view(creating, events=said)) is None
    assert start_failure("task", creating, said, 400, now=NOW) is None
    again = [*said, event(name, "FailedMount", "no such claim", ago=20)]
    assert found(view(creating, events=again)) is not None
    assert start_failure("task", creating, again, 400, now=NOW) is not None


GROVES = event(f"{NAME}-0-decode", "PodGangRefused", "pods x is forbidden: exceeded quota: gpus", kind="Warning")
OTHERS = event(f"{NAME}-0-decode", "FailedElsewhere", "services is forbidden: not allowed", kind="Warning")


@pytest.mark.parametrize(
    ("events", "kind", "message"),
    [
        ([GROVES, event(f"{NAME}-0-decode", "Reconciled", "all is well")], "quota_exceeded", "gpus"),
        ([OTHERS], "bad_configuration", "not allowed"),
        ([event(f"{NAME}-0-decode", "PodCreationFailed", "violates PodSecurity")], "bad_configuration", "PodSec"),
        ([event(f"{NAME}-decode", "FailedCreate", "exceeded quota: gpus, requested: 8")], "quota_exceeded", "gpus"),
        ([event(f"{NAME}-decode", "FailedCreate", "violates PodSecurity")], "bad_configuration", "PodSecurity"),
        ([], "timed_out", "operator"),
    ],
)
def test_a_graph_without_pods_says_why(events: list[dict[str, Any]], kind: str, message: str) -> None:
    diagnosis = found(view(events=events))
    assert diagnosis is not None
    assert diagnosis.kind == kind
    assert message in diagnosis.message


def test_one_component_without_pods_is_enough() -> None:
    refused = event(f"{NAME}-decode-5d", "FailedCreate", "exceeded quota: gpus")
    up = view(running_pod("frontend"), events=[refused])
    assert looks_stuck(up, ROLES)
    diagnosis = found(up)
    assert diagnosis is not None
    assert (diagnosis.kind, diagnosis.component) == ("quota_exceeded", "decode")


def test_a_graph_is_given_time_to_get_pods() -> None:
    young = view(of=graph(age=5), events=[])
    assert found(young) is None
    assert not looks_stuck(young, ROLES)
    assert looks_stuck(view(), ROLES)


def test_a_cause_wins_over_a_crash_that_went_along() -> None:
    crashed = pod("prefill", state={"waiting": {"reason": "CrashLoopBackOff"}}, last=exited(1), restarts=4)
    diagnosis = found(view(crashed, waiting_pod("ImagePullBackOff", "not found")))
    assert diagnosis is not None
    assert diagnosis.kind == "image_unavailable"


def test_pods_that_are_being_deleted_say_nothing() -> None:
    leaving = waiting_pod("ImagePullBackOff", "not found", deletionTimestamp="2026-11-22T12:00:00Z")
    assert found(view(running_pod(), leaving)) is None


def test_a_client_that_cannot_start_is_told_apart() -> None:
    client = waiting_pod("ImagePullBackOff", "not found", marks={"wideloop/client": "bench-1"})
    seen = view(running_pod(), client)
    assert found(seen) is None
    diagnosis = diagnose_client(seen, "bench-1")
    assert diagnosis is not None
    assert diagnosis.component == "bench-1"
    assert diagnose_client(seen, "bench-2") is None


def job(age: float) -> dict[str, Any]:
    return {"metadata": {"name": f"{NAME}-bench-1", "creationTimestamp": at(age)}}


@pytest.mark.parametrize(
    ("pods", "said", "kind"),
    [
        ([], event(f"{NAME}-bench-1", "FailedCreate", "exceeded quota: cpu"), "quota_exceeded"),
        ([], event(f"{NAME}-bench-1", "FailedCreate", "violates PodSecurity"), "bad_configuration"),
        (
            [waiting_pod("ContainerCreating", name="x", age=100, marks={"wideloop/client": "bench-1"})],
            event("x", "FailedMount", "no such claim"),
            "storage_unavailable",
        ),
    ],
)
def test_a_client_that_never_begins_says_why(pods: list[dict[str, Any]], said: dict[str, Any], kind: str) -> None:
    assert client_looks_stuck(view(*pods, jobs=[job(100)]), "bench-1")
    diagnosis = diagnose_client(view(*pods, jobs=[job(100)], events=[said]), "bench-1")
    assert diagnosis is not None
    assert diagnosis.kind == kind


def test_a_client_is_given_time_to_begin_and_none_once_it_runs() -> None:
    refused = event(f"{NAME}-bench-1", "FailedCreate", "exceeded quota: cpu")
    young = view(jobs=[job(20)], events=[refused])
    assert not client_looks_stuck(young, "bench-1")
    assert diagnose_client(young, "bench-1") is None
    runs = view(running_pod(marks={"wideloop/client": "bench-1"}), jobs=[job(900)], events=[refused])
    assert not client_looks_stuck(runs, "bench-1")
    assert diagnose_client(runs, "bench-1") is None


def silent_pod(*, ago: float = 100, **more: Any) -> dict[str, Any]:
    """Its node does not answer: what others have said of it since, and what its node said last."""
    found = running_pod(**more)
    found["status"]["containerStatuses"][0]["ready"] = True
    found["status"]["conditions"][1] |= {"status": "False", "lastTransitionTime": at(ago)}
    return found


def gated_pod() -> dict[str, Any]:
    """Its containers are ready, and something outside of it is not: its node says so itself."""
    found = silent_pod()
    found["status"]["conditions"][1]["reason"] = "ReadinessGatesNotReady"
    return found


def given_up(*, ago: float = 100, **more: Any) -> dict[str, Any]:
    """One that never was ready: nobody says anything of it before it is given up."""
    deleted = {"deletionTimestamp": at(ago - 30), "deletionGracePeriodSeconds": 30}
    found = pod(state={"running": {}}, phase="Running", **deleted | more)
    condition = {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"}
    found["status"]["conditions"] = [condition | {"lastTransitionTime": at(ago)}]
    return found


UNREACHABLE = {"node-1": "NodeStatusUnknown: Kubelet stopped posting node status."}


@pytest.mark.parametrize("lost", [silent_pod(), given_up()])
def test_a_node_that_does_not_answer_is_named(lost: dict[str, Any]) -> None:
    seen = view(running_pod("frontend"), lost, events=[])
    assert looks_stuck(seen, ROLES)
    diagnosis = found(replace(seen, nodes=UNREACHABLE))
    assert diagnosis is not None
    assert (diagnosis.kind, diagnosis.component) == ("node_lost", "decode")
    assert "node-1" in diagnosis.message and "Kubelet stopped posting" in diagnosis.message


@pytest.mark.parametrize(
    ("pods", "nodes"),
    [
        pytest.param([silent_pod(ago=20)], UNREACHABLE, id="for a moment"),
        pytest.param([silent_pod()], {"node-1": ""}, id="it answers again"),
        pytest.param([silent_pod()], {}, id="nobody has looked"),
        pytest.param([running_pod()], UNREACHABLE, id="its pod is well"),
        pytest.param([gated_pod()], UNREACHABLE, id="its pod waits for a gate"),
        pytest.param([given_up()], {"node-1": ""}, id="its pod has time to end"),
    ],
)
def test_a_silence_that_may_pass_is_waited_for(pods: list[dict[str, Any]], nodes: dict[str, str]) -> None:
    seen = view(running_pod("frontend"), running_pod(name="other"), *pods, events=[])
    assert found(replace(seen, nodes=nodes)) is None


DRAINED = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "evicting"}


def disrupted_pod(**condition: str) -> dict[str, Any]:
    ended = pod(state={"running": {}}, phase="Running", deletionTimestamp=at(5), deletionGracePeriodSeconds=30)
    ended["status"]["conditions"] = [DRAINED | {"lastTransitionTime": at(5)} | condition]
    return ended


@pytest.mark.parametrize(
    ("condition", "word"),
    [
        ({}, "drained"),
        ({"reason": "PreemptionByScheduler"}, "preempted by a pod of higher priority"),
        (
            {"reason": "TerminationByKubelet", "message": "Pod was terminated in response to imminent node shutdown."},
            "shut",
        ),
        ({"reason": "DeletionByTaintManager"}, "taint"),
        ({"reason": "SomethingNew"}, "SomethingNew"),
    ],
)
def test_a_pod_that_was_ended_from_outside_says_by_what(condition: dict[str, str], word: str) -> None:
    served = graph(age=900, annotations={READY: '{"pods": "x", "seconds": 60}'})
    diagnosis = found(view(running_pod("frontend"), disrupted_pod(**condition), of=served, events=[]))
    assert diagnosis is not None and diagnosis.kind == "node_lost" and word in diagnosis.message
    gone = replace(view(running_pod("frontend"), of=served), gone=[disrupted_pod(**condition)])
    told = found(gone)
    assert told is not None and (told.kind, told.action) == (diagnosis.kind, diagnosis.action)


def test_a_pod_that_is_drained_while_it_loads_may_load_elsewhere() -> None:
    assert found(view(running_pod("frontend"), running_pod("decode"), disrupted_pod(), events=[])) is None


def test_a_node_that_was_shut_down_is_named_as_such() -> None:
    ended = pod() | {"status": {"phase": "Failed", "reason": "Terminated", "message": "imminent node shutdown"}}
    diagnosis = found(view(running_pod("frontend"), ended))
    assert diagnosis is not None and diagnosis.kind == "node_lost" and "shut down" in diagnosis.message


def test_a_pod_whose_place_was_taken_elsewhere_is_no_trouble() -> None:
    seen = view(running_pod("frontend"), running_pod(), given_up(name="before"), of=graph(age=900, ready=True))
    assert found(replace(seen, nodes=UNREACHABLE)) is None


def test_a_pod_that_does_not_end_although_its_node_answers_is_named() -> None:
    hung = running_pod(deletionTimestamp=at(400), deletionGracePeriodSeconds=30)
    seen = view(running_pod("frontend"), running_pod(name="other"), hung, events=[])
    diagnosis = found(replace(seen, nodes={"node-1": ""}))
    assert diagnosis is not None
    assert diagnosis.kind == "node_lost" and "which answers" in diagnosis.message


def test_ranks_that_died_with_a_node_do_not_hide_it() -> None:
    crashed = pod(name="other", state={"waiting": {"reason": "CrashLoopBackOff"}}, last=exited(1), restarts=4)
    diagnosis = found(replace(view(running_pod("frontend"), silent_pod(), crashed, events=[]), nodes=UNREACHABLE))
    assert diagnosis is not None and diagnosis.kind == "node_lost"


@pytest.mark.parametrize(
    ("reply", "wrong"),
    [
        pytest.param({"status": "True", "reason": "KubeletReady"}, "", id="answers"),
        pytest.param(
            {"status": "Unknown", "reason": "NodeStatusUnknown", "message": "Kubelet stopped"},
            "NodeStatusUnknown: Kubelet stopped",
            id="does not answer",
        ),
        pytest.param(None, "no longer in the cluster", id="removed"),
        pytest.param(403, "may not be looked at", id="not allowed"),
    ],
)
def test_nodes_of_silent_pods_are_looked_at(tmp_path: Path, reply: Any, wrong: str) -> None:
    script = Script()
    node = {"status": {"conditions": [{"type": "Ready", **reply}]}} if isinstance(reply, dict) else None
    listed = answer(200, {"items": [node] if node else [], "metadata": {"resourceVersion": "1"}})
    script.on("GET", "/api/v1/nodes", refusal(403, "Forbidden") if reply == 403 else listed)
    with serve(script) as port:
        api = Api(write_kubeconfig(tmp_path / "kubeconfig", port), outage_s=0.2)
        seen = with_nodes(api, view(running_pod("frontend"), silent_pod(), silent_pod(name="b")))
    assert list(seen.nodes) == ["node-1"]
    assert wrong in seen.nodes["node-1"] and bool(wrong) == bool(seen.nodes["node-1"])
    assert script.times("/api/v1/nodes") == 1
