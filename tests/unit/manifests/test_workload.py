from __future__ import annotations

from wideloop.manifests.workload import Workload

STORED = {"isl": 512, "osl": 32, "concurrency": [4, 8], "requests_per_slot": 3, "warmup_requests": 8, "seed": 7}


def test_a_workload_that_was_stored_without_its_client_was_one_of_aiperf_and_keeps_its_fingerprint() -> None:
    workload = Workload.model_validate(STORED)
    assert (workload.client, workload.client_version) == ("aiperf", "0.13.0")
    assert workload.fingerprint == "4d578538e66c"


def test_workloads_of_two_clients_or_of_two_versions_have_different_fingerprints() -> None:
    clients = [("aiperf", "0.13.0"), ("aiperf", "0.14.0"), ("another", "0.13.0")]
    workloads = [Workload.model_validate(STORED | {"client": c, "client_version": v}) for c, v in clients]
    assert len({w.fingerprint for w in workloads}) == 3
