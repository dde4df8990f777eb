"""Whatever stage a run fails in, its teardown leaves no object of ours and no process."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from wideloop.manifests.errors import TargetError
from wideloop.manifests.kubernetes.task_job import Task, task_documents
from wideloop.operators.steps import benchmark, deployment, janitor
from wideloop.operators.targets.base import Owner
from wideloop.operators.targets.kubernetes import deployments, objects
from wideloop.operators.targets.kubernetes.job_run import _find_or_make

from tests.cluster.agent.faults import Fault
from tests.cluster.cluster import wait_for
from tests.cluster.place import OWNER, Place, empty_place, place  # noqa: F401 - fixtures

pytestmark = pytest.mark.cluster


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployments, "_GRACE_S", 1)


@pytest.mark.parametrize("stage", range(3), ids=["files", "graph", "config"])
def test_applying_that_breaks_off_leaves_nothing(place: Place, stage: int, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """The API server takes the first objects of a deployment and refuses the next."""
    made = []

    def breaking(api: object, document: dict) -> dict:
        if len(made) == stage:
            raise TargetError("the test breaks off here")
        made.append(document["kind"])
        return objects.apply(api, document)

    monkeypatch.setattr(deployments, "apply", breaking)
    with pytest.raises(TargetError, match="breaks off here"):
        place.target.apply(place.spec(), OWNER)
    assert len(made) == stage
    assert place.left() == []


def half_applied(place: Place) -> None:  # noqa: F811
    """What a killed process leaves that had made the graph only."""
    place.target.apply(place.spec(), OWNER)
    place.kubectl("delete", "configmap/one-config", "pod/one-files", "--grace-period=1")


def crashing(place: Place) -> None:  # noqa: F811
    with place.agent.fault(Fault("exit", place.namespace, "decode")):
        place.target.apply(place.spec(), OWNER)
        wait_for(lambda: place.target.status("one").state == "failed", 60, "one fails")


def starting(place: Place) -> None:  # noqa: F811
    place.target.apply(place.spec(), OWNER)
    wait_for(lambda: place.pods(deployment="one", component="decode"), 30, "a worker's pod")


def measured(place: Place) -> None:  # noqa: F811
    place.up(place.spec())
    benchmark.begin(place.subject("one", requests_per_slot=200))
    subject = place.subject("one", requests_per_slot=200)
    wait_for(lambda: place.target.client_status("one", subject.client).seconds > 1, 60, "the client runs")


def without_its_graph(place: Place) -> None:  # noqa: F811
    """Somebody has deleted the graph by hand."""
    place.up(place.spec())
    place.kubectl("delete", "dynamographdeployment", "one")


STAGES = [half_applied, crashing, starting, measured, without_its_graph]


@pytest.mark.parametrize("reach", STAGES, ids=lambda reach: reach.__name__)
def test_teardown_leaves_nothing_wherever_a_run_has_failed(place: Place, reach: Callable[[Place], None]) -> None:  # noqa: F811
    reach(place)
    assert place.left() != []
    deployment.delete("dynamo", "one")
    assert place.left() == []


@pytest.mark.parametrize("reach", [half_applied, without_its_graph], ids=lambda reach: reach.__name__)
def test_the_janitor_finds_what_a_lost_run_left(place: Place, reach: Callable[[Place], None]) -> None:  # noqa: F811
    reach(place)
    assert janitor.remove_orphans(lambda dag_id, run_id: True) == []
    assert place.left() != []
    removed = janitor.remove_orphans(lambda dag_id, run_id: (dag_id, run_id) != (OWNER.dag_id, OWNER.run_id))
    assert removed == ["dynamo/one"]
    assert place.left() == []


def test_the_janitor_leaves_another_installations_deployments_alone(place: Place) -> None:  # noqa: F811
    theirs = OWNER.model_copy(update={"installation": "theirs"})
    place.target.apply(place.spec(), theirs)
    (owned,) = place.target.list_owned()
    assert owned.owner == theirs
    assert janitor.remove_orphans(lambda dag_id, run_id: False) == []
    place.target.delete("one")
    assert place.left() == []


def test_the_janitor_ends_work_on_images_and_weights_that_no_live_run_waits_for(
    empty_place: Place,  # noqa: F811
    add_nodes: Callable[[str], list[str]],
) -> None:
    """Also such that holds a GPU; what another installation waits for, or nobody knows whose it is, goes on."""
    add_nodes("h100-8")
    live, dead = OWNER.model_copy(update={"run_id": "live"}), OWNER
    theirs = OWNER.model_copy(update={"installation": "theirs"})
    waiting = {"of-dead": [dead], "of-both": [dead, live], "of-theirs": [dead, theirs], "of-nobody": [None]}
    for name, owners in waiting.items():
        for owner in owners:
            begin(empty_place, name, owner)
    wait_for(lambda: len(empty_place.agent.processes(empty_place.namespace)) == len(waiting), 30, "tasks at work")

    assert janitor.remove_orphans(lambda dag_id, run_id: run_id == "live") == ["dynamo/of-dead"]
    left = {p.name: p.owners for p in empty_place.target.preparations()}
    assert left == {"of-both": (live,), "of-nobody": (), "of-theirs": (theirs,)}
    assert len(empty_place.agent.processes(empty_place.namespace)) == len(left)


def begin(place: Place, name: str, owner: Owner | None) -> None:  # noqa: F811
    """What a process leaves that is killed while it follows a task."""
    options = place.target._cluster.options
    gpu = {"limits": {"nvidia.com/gpu": "1"}}
    task = Task(
        kind="smoke-test",
        name=name,
        image="example.com/python",
        command=("sleep", "100"),
        limit_s=120,
        resources=gpu,
        gpu="nvidia.com/gpu",
    )
    _find_or_make(place.target._cluster.api, task_documents(options, task), owner)


def test_a_retry_completes_what_a_killed_process_left(place: Place) -> None:  # noqa: F811
    half_applied(place)
    place.up(place.spec())
    place.target.delete("one")
    assert place.left() == []


def test_files_of_a_deployment_go_with_it(place: Place) -> None:  # noqa: F811
    place.up(place.spec())
    tables = place.target._files("one").fetch("", "timing.npz")
    assert len(tables) == 2
    place.target.delete("one")
    assert not any(table.exists() for table in tables)
    # A deployment of the same name finds nothing of it.
    place.up(place.spec())
    pods = {p["metadata"]["name"] for p in place.pods(deployment="one")}
    assert {p.parent.name for p in place.target._files("one").fetch("", "timing.npz")} <= pods
    place.target.delete("one")
