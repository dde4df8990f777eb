"""The documents of every golden case, accepted by a real API server with Dynamo's definition, strictly."""

from __future__ import annotations

import subprocess
from copy import deepcopy

import pytest
import yaml
from wideloop.manifests.kubernetes.options import ApiVersion

from tests.cluster.cluster import Cluster
from tests.unit.manifests.kubernetes.golden_cases import API_VERSIONS, CASES, Case

pytestmark = pytest.mark.cluster


def dry_run(cluster: Cluster, namespace: str, documents: list[dict]) -> str:
    for document in documents:
        document["metadata"]["namespace"] = namespace
    command = ("apply", "--server-side", "--validate=strict", "--dry-run=server", "-f", "-")
    return cluster.kubectl(*command, stdin=yaml.safe_dump_all(documents))


@pytest.mark.parametrize("api_version", API_VERSIONS)
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_the_api_server_accepts_every_golden_document(
    cluster: Cluster, namespace: str, case: Case, api_version: ApiVersion
) -> None:
    said = dry_run(cluster, namespace, case.documents(api_version))
    assert f"dynamographdeployment.nvidia.com/{case.name} serverside-applied" in said
    assert f"configmap/{case.name}-config serverside-applied" in said


@pytest.mark.parametrize("api_version", API_VERSIONS)
def test_a_field_that_the_definition_lacks_is_refused(
    cluster: Cluster, namespace: str, api_version: ApiVersion
) -> None:
    """So that its acceptance says something."""
    documents = deepcopy(CASES[0].documents(api_version))
    documents[0]["spec"]["componentz"] = []
    with pytest.raises(subprocess.CalledProcessError, match="componentz"):
        dry_run(cluster, namespace, documents)
