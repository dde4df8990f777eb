"""What the preflight says of clusters without Dynamo's CRD, or with another one than it knows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.operators.targets.dynamo.crd import CRD, check_crd
from wideloop.operators.targets.kubernetes.api import Api

from tests.unit.operators.targets.kubernetes.scripted_api import Script, answer, refusal, serve, write_kubeconfig

OPTIONS = ClusterOptions(namespace="ns")


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def api(script: Script, tmp_path: Path) -> Iterator[Api]:
    with serve(script) as port:
        yield Api(write_kubeconfig(tmp_path / "kubeconfig", port))


def crd(*served: str, established: str = "True") -> dict:
    versions = [{"name": name, "served": True} for name in served] + [{"name": "v1alpha0", "served": False}]
    return {"spec": {"versions": versions}, "status": {"conditions": [{"type": "Established", "status": established}]}}


def test_no_crd_at_all(script: Script, api: Api) -> None:
    script.on("GET", CRD, refusal(404, "NotFound"))
    found = check_crd(api, OPTIONS)
    (finding,) = found.findings
    assert (found.state, finding.rule) == ("error", "the cluster has no DynamoGraphDeployment")
    assert finding.suggestion.startswith("Install the Dynamo platform")


def test_only_versions_that_we_do_not_know(script: Script, api: Api) -> None:
    script.on("GET", CRD, answer(200, crd("v2", "v3")))
    found = check_crd(api, OPTIONS)
    (finding,) = found.findings
    assert (found.state, finding.rule) == ("error", "is not served, but v2, v3")
    assert finding.suggestion.startswith("Install the Dynamo platform")


def test_one_that_is_not_established_yet(script: Script, api: Api) -> None:
    script.on("GET", CRD, answer(200, crd("v1beta1", established="False")), answer(200, crd("v1beta1")))
    assert [f.suggestion for f in check_crd(api, OPTIONS).findings] == ["Wait a few seconds"]
    assert check_crd(api, OPTIONS).state == "ok"


def test_an_account_that_may_not_look(script: Script, api: Api) -> None:
    script.on("GET", CRD, refusal(403, "Forbidden"))
    assert check_crd(api, OPTIONS).state == "not checked"
