"""Tasks that run once: their log through an API server that goes away, their ends, and what is left of each."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from wideloop.manifests.errors import TargetError
from wideloop.manifests.kubernetes import model_cache
from wideloop.manifests.kubernetes.labels import selector
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.manifests.kubernetes.task_job import Task, task_documents
from wideloop.operators.targets.base import Owner
from wideloop.operators.targets.kubernetes import pod_start
from wideloop.operators.targets.kubernetes.api import Api
from wideloop.operators.targets.kubernetes.job_run import _find_or_make, run_to_end
from wideloop.operators.targets.kubernetes.objects import apply
from wideloop.operators.targets.kubernetes.preparations import abandon, preparations

from tests.cluster.cluster import Cluster, wait_for
from tests.cluster.tasks import wait_for_no_tasks

pytestmark = pytest.mark.cluster

NAME = "wideloop-test-task"
ONE, OTHER = (Owner(dag_id="wideep_image", run_id=run, installation="ours") for run in ("one", "other"))


@pytest.fixture
def options(namespace: str, add_nodes: Callable[[str], list[str]]) -> ClusterOptions:
    add_nodes("h200-8")
    return ClusterOptions(namespace=namespace)


@pytest.fixture
def api(cluster: Cluster) -> Api:
    return Api(cluster.kubeconfig, outage_s=60)


def documents(options: ClusterOptions, script: str, **more: object) -> list[dict]:
    values = {"kind": "image", "name": NAME, "image": "example.com/python", "limit_s": 120} | more
    return task_documents(options, Task.model_validate({**values, "command": ("sh", "-c", script)}))


def begin(api: Api, task: list[dict], owner: Owner | None = None) -> None:
    """What a process does that is killed at once."""
    _find_or_make(api, task, owner)


def left(cluster: Cluster, namespace: str) -> str:
    """Objects of ours, once the cluster has had time to remove Jobs that have ended."""
    wait_for_no_tasks(cluster, namespace)
    kinds = "jobs,pods,configmaps"
    return cluster.kubectl("get", kinds, "-n", namespace, "-l", selector(), "-o", "name")


def test_a_result_and_files(api: Api, options: ClusterOptions, cluster: Cluster) -> None:
    said: list[str] = []
    script = "echo first; cat $FILES/a.txt | tee $WIDELOOP_RESULT"
    task = documents(options, script, files={"a.txt": b"from a file"}, files_at="/f", files_variable="FILES")
    assert run_to_end(api, task, say=said.append) == "from a file"
    assert said == ["first", "from a file"]
    assert left(cluster, options.namespace) == ""


def test_every_line_comes_once_though_the_api_server_is_killed(
    api: Api, options: ClusterOptions, cluster: Cluster
) -> None:
    assert cluster.own
    said: list[str] = []
    script = "for i in $(seq 60); do echo line $i; sleep 0.1; done; echo done > $WIDELOOP_RESULT"
    found: list[str] = []
    runs = threading.Thread(target=lambda: found.append(run_to_end(api, documents(options, script), say=said.append)))
    runs.start()
    wait_for(lambda: "line 5" in said)
    cluster.own.restart_apiserver(down_s=1)
    runs.join(60)
    assert found == ["done"]
    assert said == [f"line {i}" for i in range(1, 61)]
    assert left(cluster, options.namespace) == ""


def test_who_comes_again_goes_on_with_the_job_that_runs(api: Api, options: ClusterOptions, cluster: Cluster) -> None:
    task = documents(options, "echo begun; sleep 3; echo $HOSTNAME > $WIDELOOP_RESULT; echo over")
    begin(api, task)  # And then this process is killed.
    said: list[str] = []
    assert run_to_end(api, task, say=said.append).startswith(NAME)
    assert said == ["begun", "over"]
    assert left(cluster, options.namespace) == ""


def test_a_job_that_failed_before_is_begun_anew(api: Api, options: ClusterOptions, cluster: Cluster) -> None:
    task = documents(options, "exit 3")
    begin(api, task)
    done = "--for=condition=Failed"
    cluster.kubectl("wait", done, f"job/{NAME}", "-n", options.namespace, "--timeout=30s")
    better = documents(options, "echo well > $WIDELOOP_RESULT")
    assert run_to_end(api, better, say=lambda _: None) == "well"


@pytest.mark.parametrize(
    ("script", "more", "said"),
    [
        ("echo the reason; exit 3", {}, "failed (Error, exit code 3)\n    | the reason"),
        ("sleep 100", {"limit_s": 3}, "had not ended within its limit of 3 s"),
        ("true", {"image": "example.com/nothing"}, "[image_unavailable]"),
        ("true", {"secrets": (("X", "absent", "key"),)}, 'CreateContainerConfigError: secret "absent" not found'),
        ("exit 1", {"tries": 3}, "failed (Error, exit code 1)"),
    ],
    ids=["exit", "limit", "image", "secret", "no-retry"],
)
def test_each_failure_says_why_and_leaves_nothing(
    script: str, more: dict, said: str, api: Api, options: ClusterOptions, cluster: Cluster
) -> None:
    began = time.monotonic()
    with pytest.raises(TargetError) as failed:
        run_to_end(api, documents(options, script, **more), say=lambda _: None)
    assert said in str(failed.value)
    assert time.monotonic() - began < 30
    wait_for(lambda: left(cluster, options.namespace) == "", 30)


def test_a_try_that_may_do_better_is_given_one(api: Api, options: ClusterOptions) -> None:
    flag = "/shared/flag"
    claim = {"name": "shared", "persistentVolumeClaim": {"claimName": "shared"}}
    apply(api, model_cache.claim(options, "shared", "1Gi"))
    script = f"[ -e {flag} ] || {{ touch {flag}; exit 75; }}; echo second > $WIDELOOP_RESULT"
    mount = {"name": "shared", "mountPath": "/shared"}
    task = documents(options, script, tries=2, volumes=(claim,), mounts=(mount,))
    assert run_to_end(api, task, say=lambda _: None) == "second"


def test_a_quota_that_lets_no_pod_in(api: Api, options: ClusterOptions, cluster: Cluster) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": {"pods": "0"}}}
    cluster.apply([quota], options.namespace)
    with pytest.raises(TargetError, match=r"quota_exceeded.*exceeded quota: q"):
        run_to_end(api, documents(options, "true"), say=lambda _: None)
    assert left(cluster, options.namespace) == ""


def test_no_node_for_it(api: Api, options: ClusterOptions, monkeypatch: pytest.MonkeyPatch, cluster: Cluster) -> None:
    monkeypatch.setattr(pod_start, "GRACE_S", 2.0)
    nowhere = options.model_copy(update={"cpu_node_selector": {"pool": "none"}})
    with pytest.raises(TargetError, match="unschedulable"):
        run_to_end(api, documents(nowhere, "true"), say=lambda _: None)
    assert left(cluster, options.namespace) == ""


def test_somebody_elses_job_of_that_name_stays(api: Api, options: ClusterOptions, cluster: Cluster) -> None:
    theirs = documents(options, "true")[0]
    theirs["metadata"]["labels"] = {"app": "theirs"}
    cluster.apply([theirs])
    with pytest.raises(TargetError, match="exists and is not ours"):
        run_to_end(api, documents(options, "true"), say=lambda _: None)
    assert NAME in cluster.kubectl("get", "jobs", "-n", options.namespace, "-o", "name")


def test_a_job_that_somebody_removes_while_it_runs(api: Api, options: ClusterOptions, cluster: Cluster) -> None:
    def remove(line: str) -> None:
        cluster.kubectl("delete", "job", NAME, "-n", options.namespace, "--wait=false")

    task = documents(options, "trap 'exit 0' TERM; echo up; sleep 30 & wait")
    with pytest.raises(TargetError, match="was removed while it ran"):
        run_to_end(api, task, say=remove)


def test_two_who_want_the_same_get_one_result(api: Api, options: ClusterOptions, cluster: Cluster) -> None:
    task = documents(options, "sleep 2; echo $HOSTNAME > $WIDELOOP_RESULT")
    found: list[str] = []
    second = threading.Thread(target=lambda: found.append(run_to_end(api, task, say=lambda _: None)))
    begin(api, task)
    second.start()
    found.append(run_to_end(api, task, say=lambda _: None))
    second.join(20)
    assert found == [found[0]] * 2
    assert left(cluster, options.namespace) == ""


def test_a_job_goes_when_the_last_run_that_waits_for_it_is_over(
    api: Api, options: ClusterOptions, cluster: Cluster
) -> None:
    task = documents(options, "sleep 100", files={"a": b"x"}, files_at="/f", files_variable="FILES")
    begin(api, task, ONE)
    begin(api, task, OTHER)
    begin(api, task, ONE)  # A retry.
    (found,) = preparations(api, options)
    assert found.name == NAME and set(found.owners) == {ONE, OTHER}
    assert not abandon(api, options, NAME, [ONE])
    assert [p.owners for p in preparations(api, options)] == [(OTHER,)]
    assert not abandon(api, options, NAME, [ONE]), "it waits for it no more"
    assert abandon(api, options, NAME, [ONE, OTHER])
    assert preparations(api, options) == []
    wait_for(lambda: left(cluster, options.namespace) == "", 10)


def test_a_run_that_comes_just_before_a_job_is_removed_keeps_it(
    api: Api, options: ClusterOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = documents(options, "sleep 100")
    begin(api, task, ONE)
    look = api.get

    def just_before(path: str) -> object:
        found = look(path)
        monkeypatch.setattr(api, "get", look)
        begin(api, task, OTHER)
        return found

    monkeypatch.setattr(api, "get", just_before)
    assert not abandon(api, options, NAME, [ONE])
    (found,) = preparations(api, options)
    assert found.owners == (OTHER,)


def test_who_asks_again_afterwards_has_it_done_again(api: Api, options: ClusterOptions) -> None:
    task = documents(options, "echo $HOSTNAME > $WIDELOOP_RESULT")
    assert run_to_end(api, task, say=lambda _: None) != run_to_end(api, task, say=lambda _: None)


def test_an_end_without_a_result_is_an_error(api: Api, options: ClusterOptions, cluster: Cluster) -> None:
    with pytest.raises(TargetError, match="ended well and left no result"):
        run_to_end(api, documents(options, "true"), say=lambda _: None)
    assert left(cluster, options.namespace) == ""


def test_files_that_were_not_made_before_a_process_was_killed_are_made_by_the_next(
    api: Api, options: ClusterOptions, cluster: Cluster
) -> None:
    task = documents(
        options, "cat $FILES/a > $WIDELOOP_RESULT", files={"a": b"x"}, files_at="/f", files_variable="FILES"
    )
    apply(api, task[0])
    assert run_to_end(api, task, say=lambda _: None) == "x"
    assert left(cluster, options.namespace) == ""
