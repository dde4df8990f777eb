"""The pods that try the network have the networks, devices and rights of the workers, on every provider."""

from __future__ import annotations

from typing import Any

import pytest
from wideloop.manifests.kubernetes import network_check
from wideloop.manifests.kubernetes.options import ClusterOptions

from tests.unit.manifests.kubernetes.golden_cases import CASES

SPECS = {case.name: case.spec() for case in CASES}


def template(case: str) -> dict[str, Any]:
    (job,) = network_check.documents(SPECS[case], ClusterOptions(), "try")
    found: dict[str, Any] = job["spec"]["template"]
    return found


def test_they_have_the_providers_networks() -> None:
    gke = template("r1-gke-h200")
    assert "rdma-7" in gke["metadata"]["annotations"]["networking.gke.io/interfaces"]
    assert {v["name"] for v in gke["spec"]["volumes"]} == {"gib", "driver"}
    coreweave = template("r1-coreweave")["spec"]["containers"][0]
    assert coreweave["resources"]["limits"]["rdma/ib"] == "1"


@pytest.mark.parametrize("case", ["r1-gb200", "r1-dgx-gb200"])
def test_they_claim_no_channel_of_a_domain_that_does_not_exist_yet(case: str) -> None:
    pod = template(case)["spec"]
    assert "resourceClaims" not in pod
    assert "claims" not in pod["containers"][0]["resources"]
