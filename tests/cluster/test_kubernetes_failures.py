"""Runs that fail through Kubernetes, each in another stage: what is left is meant to stay, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from wideloop.manifests import profiles
from wideloop.manifests.kubernetes.labels import OWNER_RUN, selector
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.operators.commands.demo.errors import DemoError
from wideloop.operators.steps.run import Run
from wideloop.results.airflow_names import GPU_POOL

from tests.airflow_server import AirflowServer
from tests.cluster import nodes
from tests.cluster.agent.faults import Fault
from tests.cluster.airflow_place import LOAD, PROFILE
from tests.cluster.cluster import wait_for
from tests.cluster.place import Place

pytestmark = pytest.mark.cluster

#: So many runs hold GPUs at the same time, each on hosts of its own: four that deploy and one in a smoke test.
HOSTS = 5
#: A model that nothing but the failing download is about.
OTHER_MODEL = "Qwen3-30B-A3B"
OPTIONS = ClusterOptions()


@dataclass(frozen=True)
class Failing:
    """A run and the task it fails in, with what that says of the reason."""

    dag: str
    task: str
    says: str
    params: dict[str, Any] = field(default_factory=dict)


RUNS = {
    # Another engine than that of the runs before, for which the image has been verified.
    "image": Failing("wideep_image", "prepare_image", "No module named 'dynamo.mocker'", {"engine": "simulated"}),
    "weights": Failing("wideep_weights", "prepare_weights", "the disk is full", {"model": OTHER_MODEL}),
    "apply": Failing("wideep_deploy", "apply_deployment", "no such file for you"),
    "wait": Failing("wideep_benchmark", "wait_until_ready", "the engine is broken"),
    "benchmark": Failing("wideep_trial", "benchmark", "the client is broken"),
    "recording": Failing("wideep_cycle", "baseline.collect_recordings", "FileNotFoundError"),
    "placement": Failing("wideep_experts", "place_experts", "FileExistsError"),
}


@pytest.fixture(scope="module")
def room(airflow: AirflowServer, home: Place, ended: dict[str, str]) -> Iterator[None]:
    """Hosts, and slots of the pool, for all runs at once; those that end well are over."""
    hosts = profiles.hardware(PROFILE)
    more = hosts.model_copy(update={"nodes": HOSTS * hosts.nodes})
    documents = list(nodes.gpu_nodes(more, f"{home.namespace}-more"))
    names = home.agent.add_nodes(documents)
    before = airflow.get(f"/api/v2/pools/{GPU_POOL}")
    airflow.api.set_pool(GPU_POOL, HOSTS, before["description"])
    yield
    airflow.api.set_pool(GPU_POOL, before["slots"], before["description"])
    home.agent.remove_nodes(names)


@pytest.fixture(scope="module")
def failing(airflow: AirflowServer, home: Place, room: None) -> Iterator[dict[str, str]]:
    """The run ids by stage; the runs are at work, and the faults that they meet are there until the last has ended."""
    faults = [
        Fault("exit", home.namespace, "wideloop-weights", OTHER_MODEL, message="the disk is full"),
        Fault("exit", home.namespace, "wideloop-smoke-test", "dynamo.mocker", message=RUNS["image"].says),
        Fault("exit", home.namespace, "benchmark-", "dynamo.sglang", message="the engine is broken"),
        Fault("exit", home.namespace, "trial-", "aiperf", message="the client is broken"),
    ]
    with ExitStack() as stack:
        for fault in faults:
            stack.enter_context(home.agent.fault(fault))
        stack.callback(home.cluster.kubectl, "delete", "-f", "-", stdin=json.dumps(policy(home.namespace)))
        home.cluster.apply(policy(home.namespace)["items"])
        runs = {stage: trigger(airflow, run) for stage, run in RUNS.items()}
        lose_store(airflow, runs["placement"])
        lose_disk(home, runs["recording"], airflow)
        yield runs


def trigger(airflow: AirflowServer, failing: Failing) -> str:
    """Start a run. While tasks of others end, SQLite may be locked for longer than Airflow waits for it."""
    for _ in range(3):
        with suppress(DemoError):
            return airflow.run(failing.dag, **LOAD | failing.params)
    return airflow.run(failing.dag, **LOAD | failing.params)


def policy(namespace: str) -> dict[str, Any]:
    """Has the API server refuse the ConfigMap of ``wideep_deploy``: what comes before it was made by then."""
    name = f"refuse-files-{namespace}"
    rules = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}]
    ours = f"request.namespace != '{namespace}' || !object.metadata.name.startsWith('deploy-')"
    refusing = {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": rules},
        "validations": [{"expression": ours, "message": RUNS["apply"].says}],
    }
    binding = {"policyName": name, "validationActions": ["Deny"]}
    api = {"apiVersion": "admissionregistration.k8s.io/v1"}
    return {
        "apiVersion": "v1",
        "kind": "List",
        "items": [
            api | {"kind": "ValidatingAdmissionPolicy", "metadata": {"name": name}, "spec": refusing},
            api | {"kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name}, "spec": binding},
        ],
    }


def lose_store(airflow: AirflowServer, run: str) -> None:
    """A file lies where the artefact store wants to keep what placing experts gives."""
    kept = Path(airflow.settings.artefacts_url.removeprefix("file://"))
    cycle = kept / "cycles" / Run(dag_id=RUNS["placement"].dag, run_id=run).cycle_id
    cycle.mkdir(parents=True, exist_ok=True)
    (cycle / "experts").touch()


def lose_disk(home: Place, run: str, airflow: AirflowServer) -> None:
    """Once the run's engine is measured, the folders are gone that its workers write recordings to."""

    dag = RUNS["recording"].dag

    def measured() -> list[str]:
        assert airflow.api.run_state(dag, run) != "failed", airflow.failures(dag, run)
        deployments = [p["metadata"]["labels"]["wideloop/deployment"] for p in owned(home, run, "jobs")]
        return [d for d in deployments if d.startswith("baseline-")]

    (deployment,) = airflow.until(measured, 240, "a benchmark")
    volume = home.kubectl("get", "pvc", OPTIONS.files_claim, "-o", "jsonpath={.spec.volumeName}")
    disk = Path(home.cluster.kubectl("get", "pv", volume, "-o", "jsonpath={.spec.hostPath.path}"))
    for role in ("prefill", "decode"):
        (disk / deployment / role).rename(disk / deployment / f"{role}.lost")


def owned(home: Place, run: str, kinds: str) -> list[dict[str, Any]]:
    """Objects of ours that say they belong to a run."""
    found = json.loads(home.kubectl("get", kinds, "-l", selector(), "-o", "json"))["items"]
    return [one for one in found if (one["metadata"].get("annotations") or {}).get(OWNER_RUN) == run]


@pytest.mark.parametrize("stage", RUNS)
def test_a_run_that_fails_says_why_and_leaves_nothing(
    stage: str, failing: dict[str, str], airflow: AirflowServer, home: Place
) -> None:
    run, expected = failing[stage], RUNS[stage]
    airflow.wait(expected.dag, run, 300, expect="failed")
    assert airflow.states(expected.dag, run)[expected.task] == "failed"
    assert expected.says in airflow.log(expected.dag, run, expected.task)
    assert owned(home, run, "dynamographdeployments,pods,jobs,configmaps") == []


def test_claims_and_what_is_known_of_images_stay_and_nothing_else(
    failing: dict[str, str], airflow: AirflowServer, home: Place
) -> None:
    for stage, run in failing.items():
        airflow.wait(RUNS[stage].dag, run, 300, expect="failed")
    # Jobs of tasks stay a moment for others who follow them.
    wait_for(lambda: home.left() == [], 30, "nothing is left")
    every = "configmaps,secrets,services,persistentvolumeclaims,jobs,pods"
    stays = home.kubectl("get", every, "-l", selector(), "-o", "name").split()
    claims = [f"persistentvolumeclaim/{name}" for name in (OPTIONS.files_claim, OPTIONS.model_claim)]
    assert sorted(stays) == sorted(["configmap/wideloop-images", *claims])


def test_what_a_run_was_doing_that_was_ended_is_swept(airflow: AirflowServer, home: Place, room: None) -> None:
    """A smoke test that hangs holds a GPU for as long as it may; its run is ended by hand."""
    image = RUNS["image"]
    with home.agent.fault(Fault("hang", home.namespace, "wideloop-smoke-test")):
        run = trigger(airflow, image)
        airflow.until(lambda: home.agent.processes(home.namespace), 60, "the smoke test")
        airflow.api.fail(image.dag, run)
        airflow.wait(image.dag, run, 30, expect="failed")
        assert home.agent.processes(home.namespace), "it goes on: another run may wait for it"
        sweep = airflow.run("wideep_janitor")
        airflow.wait("wideep_janitor", sweep, 60)
    wait_for(lambda: home.left() == [], 30, "nothing is left")
