from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from wideloop.manifests.errors import TargetError
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.operators.targets.kubernetes import files as files_module
from wideloop.operators.targets.kubernetes.cluster import Cluster
from wideloop.operators.targets.kubernetes.files import Files

from tests.unit.operators.targets.kubernetes.cluster_objects import DYNAMO
from tests.unit.operators.targets.kubernetes.scripted_api import (
    Script,
    answer,
    hang_up,
    refusal,
    serve,
    write_kubeconfig,
)

PROXY = "/api/v1/namespaces/ns/pods/baseline-1-files:8080/proxy"
CONTENT = os.urandom(3_000_000)


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def files(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Files]:
    monkeypatch.setattr(files_module, "_PAUSE_S", 0.01)
    with serve(script) as port:
        cluster = Cluster(write_kubeconfig(tmp_path / "kubeconfig", port), None, ClusterOptions(namespace="ns"), DYNAMO)
        yield Files(cluster, "baseline-1", tmp_path / "here")


def listing(*entries: tuple[str, int, float]) -> Callable[[BaseHTTPRequestHandler], None]:
    return answer(200, {"files": [{"path": p, "bytes": b, "modified": m} for p, b, m in entries]})


def test_files_are_brought_here_whole_oldest_first(files: Files, script: Script) -> None:
    script.on(
        "GET", f"{PROXY}/list/clients/c", listing(("b.json", 2, 9.0), ("sub/a.json", 3_000_000, 5.0), ("x.dat", 1, 1.0))
    )
    script.on("GET", f"{PROXY}/file/clients/c/b.json", answer(200, b"{}"))
    script.on("GET", f"{PROXY}/file/clients/c/sub/a.json", answer(200, CONTENT))
    found = files.fetch("clients/c", ".json")
    assert [p.name for p in found] == ["a.json", "b.json"]
    assert found[0].read_bytes() == CONTENT
    assert found[0] == files.local("clients/c") / "sub" / "a.json"


def test_what_is_here_already_is_not_fetched_again_until_it_changes(files: Files, script: Script) -> None:
    path = f"{PROXY}/file/r/a"
    script.on("GET", path, answer(200, b"old"), answer(200, b"new"))
    script.on("GET", f"{PROXY}/list/r", listing(("a", 3, 5.0)), listing(("a", 3, 5.0)), listing(("a", 3, 6.0)))
    files.fetch("r"), files.fetch("r")
    assert script.times(path) == 1
    (found,) = files.fetch("r")
    assert found.read_bytes() == b"new"


def test_a_download_that_breaks_off_is_begun_again(files: Files, script: Script) -> None:
    script.on("GET", f"{PROXY}/list/r", listing(("a", len(CONTENT), 5.0)))
    half = answer(200, CONTENT[: len(CONTENT) // 2], **{"Content-Length": str(len(CONTENT))})
    script.on("GET", f"{PROXY}/file/r/a", half, answer(200, CONTENT))
    (found,) = files.fetch("r")
    assert found.read_bytes() == CONTENT


def test_half_a_file_never_passes_for_a_whole_one(files: Files, script: Script) -> None:
    script.on("GET", f"{PROXY}/list/r", listing(("a", len(CONTENT), 5.0)))
    script.on("GET", f"{PROXY}/file/r/a", answer(200, CONTENT[:1000], **{"Content-Length": str(len(CONTENT))}))
    with pytest.raises(TargetError, match="a could not be brought here whole"):
        files.fetch("r")
    assert [p for p in files.local("r").rglob("*") if p.is_file()] == []


def test_a_name_that_leads_elsewhere_is_refused(files: Files, script: Script) -> None:
    script.on("GET", f"{PROXY}/list/r", listing(("../../../evil", 1, 5.0)))
    with pytest.raises(TargetError, match="lies outside r"):
        files.fetch("r")


def test_forgetting_removes_the_copy_too_and_needs_no_server(files: Files, script: Script) -> None:
    script.on("GET", f"{PROXY}/list/r", listing(("a", 1, 5.0)))
    script.on("GET", f"{PROXY}/file/r/a", answer(200, b"x"))
    files.fetch("r")
    files.forget("r", exists=False)
    assert not files.local("r").exists()


def test_a_pod_that_is_gone_is_brought_back_to_remove_what_it_served(files: Files, script: Script) -> None:
    pods = "/api/v1/namespaces/ns/pods"
    over = answer(200, {"metadata": {"name": "f"}, "status": {"phase": "Failed"}})
    up = answer(200, {"metadata": {"name": "f", "creationTimestamp": "2026-01-01T00:00:00Z"}, "status": {}})
    # Looked at before it is removed, when it is gone, before one is made, and while that one starts.
    script.on("GET", f"{pods}/baseline-1-files", over, *[refusal(404, "NotFound")] * 2, up)
    script.on("DELETE", f"{pods}/baseline-1-files", answer(200, {}))
    script.on("POST", pods, answer(201, {}))
    script.on("POST", f"{PROXY}/remove/", *[refusal(503, "ServiceUnavailable")] * 3, answer(200, b"{}"))
    files.forget()
    assert (script.times(pods), script.times(f"{PROXY}/remove/")) == (1, 4)


def test_what_cannot_be_served_any_more_stays_where_it_is(files: Files, script: Script) -> None:
    """There is nowhere to put the pod: the deployment's removal goes on without it."""
    nowhere = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no such claim"}]
    pod = {
        "metadata": {"name": "f", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "status": {"phase": "Pending", "conditions": nowhere},
    }
    script.on("GET", "/api/v1/namespaces/ns/pods/baseline-1-files", answer(200, pod))
    script.on("POST", f"{PROXY}/remove/", refusal(503, "ServiceUnavailable"))
    files.forget()
    assert script.times(f"{PROXY}/remove/") == 1


def test_a_removal_that_takes_too_long_is_no_removal(files: Files, script: Script) -> None:
    script.on("GET", f"{PROXY}/list/r", listing(("a", 1, 5.0)))
    script.on("GET", f"{PROXY}/file/r/a", answer(200, b"x"))
    files.fetch("r")
    script.on("POST", f"{PROXY}/remove/r", hang_up)
    with pytest.raises(TargetError, match="was not answered"):
        files.forget("r")
    assert files.local("r").exists()


def test_a_pod_that_was_made_again_is_asked_with_its_own_key(files: Files, script: Script) -> None:
    pod = PROXY.removesuffix(":8080/proxy")
    script.on("GET", pod, answer(200, {"metadata": {"uid": "first"}}), answer(200, {"metadata": {"uid": "second"}}))
    asked: list[str] = []

    def listed(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.path.partition("?key=")[2])
        reply = listing(("a", 3, 5.0)) if asked[-1] == "second" else answer(403, b"")
        reply(handler)

    script.on("GET", f"{PROXY}/list/r", listed)
    script.on("GET", f"{PROXY}/file/r/a", answer(200, b"new"))
    (path,) = files.fetch("r")
    assert (path.read_bytes(), asked) == (b"new", ["first", "second"])
