"""Ends and beginnings of a task's Job that a healthy cluster cannot be asked for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from wideloop.manifests.errors import TargetError
from wideloop.manifests.kubernetes.labels import MANAGED_BY, MANAGER
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.manifests.kubernetes.task_job import Task, task_documents
from wideloop.operators.targets.kubernetes import job_run
from wideloop.operators.targets.kubernetes.api import Api

from tests.unit.operators.targets.kubernetes.scripted_api import Reply, Script, answer, refusal, serve, write_kubeconfig

JOB = "/apis/batch/v1/namespaces/ns/jobs/task"
JOBS = "/apis/batch/v1/namespaces/ns/jobs"
PODS = "/api/v1/namespaces/ns/pods"
EVENTS = "/api/v1/namespaces/ns/events"
LOG = f"{PODS}/task-1/log"
DOCUMENTS = task_documents(
    ClusterOptions(namespace="ns"), Task(kind="image", name="task", image="i", command=("true",), limit_s=60)
)


def job(*conditions: str, **annotations: str) -> Reply:
    metadata = {"name": "task", "namespace": "ns", "uid": "1", "labels": {MANAGED_BY: MANAGER}}
    status = {"conditions": [{"type": condition, "status": "True"} for condition in conditions]}
    found = {"kind": "Job", "metadata": {**metadata, "annotations": annotations}, "spec": {}, "status": status}
    return answer(200, found)


def pods(*states: dict[str, Any]) -> Reply:
    items = [
        {
            "metadata": {"name": f"task-{i}", "uid": f"pod-{i}", "creationTimestamp": "2026-11-22T12:00:00Z"},
            "spec": {},
            "status": {"conditions": [], "containerStatuses": [{"name": "task", "state": state}]},
        }
        for i, state in enumerate(states, 1)
    ]
    return answer(200, {"items": items, "metadata": {"resourceVersion": "1"}})


def events(*reasons: str) -> Reply:
    items = [
        {"metadata": {"creationTimestamp": f"2026-11-22T12:00:0{i}Z"}, "reason": reason, "message": reason}
        for i, reason in enumerate(reasons)
    ]
    return answer(200, {"items": items, "metadata": {"resourceVersion": "1"}})


RUNNING = {"running": {}}
DONE = {"terminated": {"exitCode": 0, "message": "the result"}}
CREATING = {"waiting": {"reason": "ContainerCreating"}}


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    monkeypatch.setattr(job_run, "_POLL_S", 0.02)
    one = Script()
    one.on("GET", JOB, job())
    one.on("PATCH", JOB, job())
    one.on("DELETE", JOB, job())
    one.on("GET", LOG, answer(200, b""))
    one.on("GET", EVENTS, events())
    return one


@pytest.fixture
def api(script: Script, tmp_path: Path) -> Iterator[Api]:
    with serve(script) as port:
        yield Api(write_kubeconfig(tmp_path / "kubeconfig", port), outage_s=30)


@pytest.mark.parametrize("status", [500, 502, 403])
def test_a_log_that_cannot_be_read_does_not_end_a_task_nor_hold_it_up(api: Api, script: Script, status: int) -> None:
    script.on("GET", JOB, job(), job(), job(), job("Complete"))
    script.on("GET", PODS, pods(RUNNING), pods(RUNNING), pods(DONE))
    script.on("GET", LOG, refusal(status, "InternalError", "dial tcp 10.0.0.7:10250: i/o timeout"))
    said: list[str] = []
    began = time.monotonic()
    assert job_run.run_to_end(api, DOCUMENTS, say=said.append) == "the result"
    assert time.monotonic() - began < 5, "the node is not asked for as long as an API server would be waited for"
    (line,) = said
    assert "the log cannot be read now, the task goes on" in line
    assert ("DELETE", JOB) not in script.asked


def test_the_first_who_sees_the_end_writes_the_result_on_the_job_and_removes_nothing(api: Api, script: Script) -> None:
    script.on("GET", JOB, job(), job("Complete"))
    script.on("GET", PODS, pods(DONE))
    assert job_run.run_to_end(api, DOCUMENTS, say=lambda _: None) == "the result"
    assert ("PATCH", JOB) in script.asked
    assert ("DELETE", JOB) not in script.asked


def test_another_who_follows_finds_it_there_though_the_pod_is_gone(api: Api, script: Script) -> None:
    script.on("GET", JOB, job(), job("Complete", **{job_run.RESULT: "the result"}))
    script.on("GET", PODS, pods())
    assert job_run.run_to_end(api, DOCUMENTS, say=lambda _: None) == "the result"


def test_one_who_comes_afterwards_does_not_take_it_for_the_result_of_now(api: Api, script: Script) -> None:
    taken = job("Complete", **{job_run.RESULT: "old"})
    gone = refusal(404, "NotFound")
    script.on("GET", JOB, taken, gone, gone, job("Complete"))
    script.on("POST", JOBS, job())
    script.on("GET", PODS, pods(DONE))
    assert job_run.run_to_end(api, DOCUMENTS, say=lambda _: None) == "the result"
    assert ("DELETE", JOB) in script.asked


def test_an_end_without_a_pod_to_say_what_came_of_it(api: Api, script: Script) -> None:
    script.on("GET", JOB, job(), job("Complete"), refusal(404, "NotFound"))
    script.on("GET", PODS, pods())
    with pytest.raises(TargetError, match="ended well and left no result: its pod has been removed"):
        job_run.run_to_end(api, DOCUMENTS, say=lambda _: None)
    assert ("DELETE", JOB) in script.asked, "else the next try would find the same"


@pytest.mark.parametrize("reasons", [("Scheduled", "Pulling"), ("FailedScheduling", "TriggeredScaleUp")])
def test_a_pod_that_is_on_its_way_may_take_as_long_as_the_job(api: Api, script: Script, reasons: tuple[str]) -> None:
    script.on("GET", JOB, job(), *[job()] * 8, job("Complete"))
    script.on("GET", PODS, *[pods(CREATING)] * 8, pods(DONE))
    script.on("GET", EVENTS, events(*reasons))
    assert job_run.run_to_end(api, DOCUMENTS, say=lambda _: None, pending_s=0.0) == "the result"


def test_one_of_which_nothing_is_said_may_not(api: Api, script: Script) -> None:
    script.on("GET", JOB, job(), job(), refusal(404, "NotFound"))
    script.on("GET", PODS, pods(CREATING))
    script.on("GET", EVENTS, events("Scheduled"))
    with pytest.raises(TargetError, match="has not started after"):
        job_run.run_to_end(api, DOCUMENTS, say=lambda _: None, pending_s=0.0)
