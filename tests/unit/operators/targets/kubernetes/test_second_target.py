"""What a second target on a cluster must bring: a platform, and nothing of Dynamo's."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from wideloop.manifests.clients import get_load_generator
from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.kubernetes import rbac
from wideloop.operators.request import Request
from wideloop.operators.settings import settings
from wideloop.operators.targets import TARGETS, Endpoints, Owner, open_target, target_names
from wideloop.operators.targets.kubernetes.preflight import run_checks

from tests.unit.operators.targets.kubernetes.cluster_objects import NAME, NOW, metadata, running_pod
from tests.unit.operators.targets.kubernetes.scripted_api import Script, answer, refusal, serve, write_kubeconfig
from tests.unit.operators.targets.kubernetes.stateful_target import CONTROL_PORTS, StatefulTarget

CORE = "/api/v1/namespaces/ns"
ROOT = f"/apis/apps/v1/namespaces/ns/statefulsets/{NAME}"
#: The age, by the clock of these objects, of what was made half a minute ago.
YOUNG = (NOW - datetime.now(UTC)).total_seconds() + 30
NONE = answer(200, {"items": [], "metadata": {"resourceVersion": "1"}})


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Script]:
    script = Script()
    with serve(script) as port:
        monkeypatch.setenv("WIDELOOP_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("WIDELOOP_KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", port)))
        monkeypatch.setenv("WIDELOOP_CLUSTER__NAMESPACE", "ns")
        monkeypatch.setitem(TARGETS.registered, "stateful", StatefulTarget)
        settings.cache_clear()
        yield script
    settings.cache_clear()


@pytest.fixture
def target(script: Script) -> StatefulTarget:
    found = open_target("stateful")
    assert isinstance(found, StatefulTarget) and "stateful" in target_names()
    return found


def spec_of() -> DeploymentSpec:
    params = {"target": "dynamo", "engine": "simulated", "model": "Qwen3-30B-A3B", "hardware": "h100-8"}
    spec = Request.from_params(params).spec(NAME, "sha256:" + "5" * 64, "/model-cache/m")
    # The worker only: the router is the platform's.
    return spec.model_copy(update={"target": "stateful", "workers": spec.workers[:1]})


def listed(*items: dict[str, Any]) -> Any:
    return answer(200, {"items": list(items), "metadata": {"resourceVersion": "1"}})


def deployed(script: Script, ready: int, *pods: dict[str, Any]) -> DeploymentSpec:
    spec = spec_of()
    root = {"metadata": metadata(NAME, YOUNG), "spec": {"replicas": 1}, "status": {"readyReplicas": ready}}
    script.on("GET", ROOT, answer(200, root))
    script.on("GET", f"{CORE}/pods", listed(*pods))
    script.on("GET", f"{CORE}/configmaps/{NAME}-config", answer(200, {"data": {"spec.json": spec.model_dump_json()}}))
    return spec


def worker_pods(spec: DeploymentSpec) -> list[dict[str, Any]]:
    pods = [
        running_pod(spec.workers[0].role, name=f"{NAME}-0", ready_for=YOUNG, age=YOUNG),
        running_pod("frontend", name=f"{NAME}-router", ready_for=YOUNG, age=YOUNG),
    ]
    for number, pod in enumerate(pods):
        pod["status"]["podIP"] = f"10.0.0.{number}"
    return pods


def test_a_worker_has_a_control_server_for_each_rank_and_all_of_them_are_asked(
    target: StatefulTarget, script: Script
) -> None:
    spec = deployed(script, 1, *worker_pods(spec_of()))
    worker = f"{spec.workers[0].role}-0"
    endpoints = target.endpoints(NAME)
    assert endpoints.frontend == f"http://{NAME}-router:80"
    assert endpoints.control[worker] == tuple(f"http://10.0.0.0:{port}" for port in CONTROL_PORTS)
    for port in CONTROL_PORTS:
        script.on("POST", f"{CORE}/pods/{NAME}-0:{port}/proxy/flush", answer(200, f"rank at {port}".encode()))
    assert target.call_all(NAME, worker, "/flush") == ("rank at 8200", "rank at 8201")


def test_the_frontend_is_the_platforms_and_counts_as_a_component(target: StatefulTarget, script: Script) -> None:
    spec = deployed(script, 0, worker_pods(spec_of())[0])
    frontend = target.frontend(spec)
    assert frontend is not None and frontend in target.components(spec)
    script.on("POST", f"{CORE}/services/{NAME}-router:80/proxy/v1/models", answer(200, b"m"))
    assert target.call(NAME, "frontend", "/v1/models") == "m"


def test_it_is_ready_once_its_controller_and_a_generation_say_so(target: StatefulTarget, script: Script) -> None:
    pods = worker_pods(spec_of())
    deployed(script, 0, *pods, running_pod("files"))
    assert target.status(NAME).reason == "every pod is ready; the StatefulSet controller does not report it yet"
    deployed(script, 1, *pods, running_pod("files"))
    completion = {"choices": [{}], "usage": {"completion_tokens": 2}}
    script.on("POST", f"{CORE}/services/{NAME}-router:80/proxy/v1/chat/completions", answer(200, completion))
    script.on("PATCH", ROOT, answer(200, {}))
    assert target.status(NAME).state == "ready"
    assert ("PATCH", ROOT) in script.asked, "what was answered is kept on the root object"


def test_what_is_applied_is_its_root_object_and_what_belongs_to_it(target: StatefulTarget, script: Script) -> None:
    script.on("GET", f"{CORE}/pods", NONE)
    for path in (f"{CORE}/pods", ROOT.rpartition("/")[0], f"{CORE}/configmaps"):
        made = {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata(NAME, 0)}
        script.on("POST", path, answer(201, made))
    target.apply(spec_of(), Owner(dag_id="d", run_id="r"))
    made = [path for method, path in script.asked if method == "POST"]
    assert made == [f"{CORE}/pods", ROOT.rpartition("/")[0], f"{CORE}/configmaps"]
    assert not any("nvidia.com" in path for _, path in script.asked)


def test_the_preflight_asks_for_its_kind_and_its_rights(target: StatefulTarget, script: Script) -> None:
    script._otherwise = refusal(403, "Forbidden")
    script.on("GET", "/version", answer(200, {"gitVersion": "v1.36.0"}))
    reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    script.on("POST", reviews, answer(201, {"status": {"allowed": True}}))
    script.on("GET", ROOT, refusal(404, "NotFound"))
    script.on("POST", ROOT.rpartition("/")[0], answer(201, {}))
    cluster = target._cluster
    generator = get_load_generator("aiperf")
    checks = {c.name: c for c in run_checks(cluster.api, cluster.options, target.platform, spec_of(), generator)}
    assert checks["admission"].found == "the API server takes the StatefulSet (apps/v1)"
    assert checks["rendering"].found.startswith("1 components")
    texts = {str(p) for p in rbac.permissions("ns", (), target.platform.grants)}
    assert "list statefulsets.apps" in texts and not any("dynamo" in text for text in texts)


def test_nothing_of_dynamos_is_imported_for_it() -> None:
    probe = (
        "import sys, tests.unit.operators.targets.kubernetes.stateful_target;"
        "print([m for m in sys.modules if m.startswith('wideloop.') and '.dynamo' in m and 'engines' not in m])"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_endpoints_that_were_stored_with_one_url_per_worker_are_read() -> None:
    stored = '{"frontend": "http://f", "control": {"decode-0": "http://w:9090"}}'
    assert Endpoints.model_validate_json(stored).control == {"decode-0": ("http://w:9090",)}
