"""The files of a cycle on the results page: listed by deployment, shown as text, nothing outside the cycle."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient
from wideloop.results.artefacts import Artefacts
from wideloop.results.dashboard import app as dashboard
from wideloop.results.records import Cycle
from wideloop.results.store import Store

from tests.unit.results import factory


@pytest.fixture
def artefacts(tmp_path: Path) -> Artefacts:
    return Artefacts(tmp_path / "artefacts")


@pytest.fixture
def owner(sqlite_store: Store, artefacts: Artefacts) -> Cycle:
    """A cycle with files of the deployments of trials 3 (out of memory) and 4, and one of the whole run."""
    owner = factory.seed(sqlite_store)
    cycle = ("cycles", owner.cycle_id)
    sqlite_store.put(factory.trial(owner, 3, deployment="trial-33"))
    uri = artefacts.put_bytes(b"{}", *cycle, "benchmarks", "trial-44", "profile_export.jsonl")
    sqlite_store.put(factory.measurement(owner, label="trial 4", trial_number=4, artefact=uri.rsplit("/", 1)[0]))
    for name in ("trial-33", "trial-44"):
        artefacts.put_bytes(gzip.compress(f"log of {name}".encode()), *cycle, "deployments", name, "logs", "d.log.gz")
    artefacts.put_bytes(b"<script>alert(1)</script>", *cycle, "deployments", "trial-44", "manifest.yaml")
    artefacts.put_bytes(b"\x80", *cycle, "recordings", "trial-44", "decode.npz")
    artefacts.put_bytes(b"secret", "cycles", "another", "deployments", "x", "a.log")
    artefacts.put_bytes(b"{}", *cycle, "placements.json")
    return owner


@pytest.fixture
def client(sqlite_store: Store, artefacts: Artefacts) -> TestClient:
    host = FastAPI()
    host.mount("/prefix", dashboard.create_app(lambda: sqlite_store, [], lambda: artefacts))
    return TestClient(host, base_url="http://test/prefix/")


def test_files_are_listed_by_what_was_measured(client: TestClient, owner: Cycle) -> None:
    groups = client.get(f"api/cycles/{owner.cycle_id}/files").json()
    assert [(g["deployment"], g["labels"], len(g["files"])) for g in groups] == [
        ("trial-33", ["trial 3"], 1),
        ("trial-44", ["trial 4"], 4),
        ("", [], 1),
    ]
    page = client.get(f"cycles/{owner.cycle_id}/files").text
    assert '<h2 id="trial-33">trial 3</h2>' in page and "another" not in page
    assert 'href="files/deployments/trial-33/logs/d.log.gz"' in page


def test_a_trial_and_its_level_link_to_their_files_also_without_a_measurement(client: TestClient, owner: Cycle) -> None:
    page = client.get(f"cycles/{owner.cycle_id}").text
    for deployment in ("trial-33", "trial-44"):
        assert f'href="../cycles/{owner.cycle_id}/files#{deployment}"' in page


def test_without_an_artefact_store_nothing_links_to_files(sqlite_store: Store, owner: Cycle) -> None:
    app = dashboard.create_app(lambda: sqlite_store, [])
    page = TestClient(app).get(f"/cycles/{owner.cycle_id}").text
    assert "/files" not in page
    assert TestClient(app).get(f"/cycles/{owner.cycle_id}/files").status_code == 404


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("deployments/trial-33/logs/d.log.gz", b"log of trial-33", "text/plain; charset=utf-8"),
        ("deployments/trial-44/manifest.yaml", b"<script>alert(1)</script>", "text/plain; charset=utf-8"),
        ("recordings/trial-44/decode.npz", b"\x80", "application/octet-stream"),
    ],
)
def test_a_file_is_text_or_a_download_and_never_a_page(
    client: TestClient, owner: Cycle, name: str, content: bytes, kind: str
) -> None:
    answer = client.get(f"cycles/{owner.cycle_id}/files/{name}")
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, content, kind)
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "name",
    [
        "nothing.log",
        "deployments",
        "../another/deployments/x/a.log",
        "..%2Fanother%2Fdeployments%2Fx%2Fa.log",
        "%2Fetc%2Fpasswd",
    ],
)
def test_there_is_no_way_out_of_a_cycles_folder(client: TestClient, owner: Cycle, name: str) -> None:
    answer = client.get(f"cycles/{owner.cycle_id}/files/{name}")
    assert answer.status_code == 404 and "secret" not in answer.text
