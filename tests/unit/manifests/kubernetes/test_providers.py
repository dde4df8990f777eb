"""What the overlays of providers change in rendered deployments, and overlays of one's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from wideloop.manifests import profiles
from wideloop.manifests.errors import Refused
from wideloop.manifests.kubernetes.dynamo import render
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.manifests.kubernetes.providers import overlay, provider_names, with_overlay

from tests.unit.manifests.kubernetes.golden_cases import CASES, FOLDER

BY_NAME = {case.name: case for case in CASES}
PROVIDED = {case.name: case for case in CASES if profiles.hardware(case.hardware).provider}


def worker(case: str, **options: Any) -> dict[str, Any]:
    """The pod of the decode worker."""
    of_case = BY_NAME[case]
    graph = render(of_case.spec(), of_case.cluster("v1beta1").changed(**options))[0]
    template: dict[str, Any] = graph["spec"]["components"][-1]["podTemplate"]
    return template


def env(template: dict[str, Any]) -> dict[str, str]:
    (main,) = template["spec"]["containers"]
    return {v["name"]: v["value"] for v in main["env"] if "value" in v}


def test_every_provider_of_a_profile_has_an_overlay_and_a_golden_file_of_its_own() -> None:
    named = {profiles.hardware(name).provider for name in profiles.hardware_names()} - {None}
    assert named == set(provider_names())
    assert {profiles.hardware(case.hardware).provider for case in PROVIDED.values()} == named
    files = [(FOLDER / f"{name}.v1beta1.yaml").read_text().replace(name, "") for name in PROVIDED]
    assert len({*files}) == len(PROVIDED)


@pytest.mark.parametrize("provider", provider_names())
def test_each_block_of_an_overlay_names_its_source(provider: str) -> None:
    """A field without a source above it could not be checked by anybody later."""
    text = (Path(__file__).parents[4] / "manifests" / "kubernetes" / "providers" / f"{provider}.yaml").read_text()
    for block in text.split("\n\n")[1:]:
        assert "https://" in block, block


def test_infiniband_at_coreweave_is_one_switch_and_its_adapters_are_named() -> None:
    template = worker("r1-coreweave")
    (main,) = template["spec"]["containers"]
    assert main["resources"]["limits"]["rdma/ib"] == "1"
    assert env(template)["NCCL_IB_HCA"] == "ibp"
    assert env(template)["UCX_NET_DEVICES"].count(":1") == 8
    assert worker("r1-32")["spec"]["containers"][0]["resources"]["limits"]["rdma/ib"] == "8"


@pytest.mark.parametrize("case", ["r1-gke-h200", "r1-gke-b200"])
def test_gke_attaches_its_eight_networks_and_maps_each_gpu_to_its_adapter(case: str) -> None:
    template = worker(case)
    networks = json.loads(template["metadata"]["annotations"]["networking.gke.io/interfaces"])
    assert [n["network"] for n in networks] == ["default", *(f"rdma-{i}" for i in range(8))]
    mapping = env(template)["DEEP_EP_DEVICE_TO_HCA_MAPPING"].split(",")
    assert mapping == [f"{i}:mlx5_{i}:1" for i in range(8)]
    (main,) = template["spec"]["containers"]
    assert main["securityContext"] == {"privileged": True, "runAsUser": 0}
    mounts = {m["name"]: m["mountPath"] for m in main["volumeMounts"]}
    hosts = {v["name"]: v["hostPath"]["path"] for v in template["spec"]["volumes"] if "hostPath" in v}
    assert (mounts["gib"], hosts["gib"]) == ("/usr/local/gib", "/home/kubernetes/bin/gib")


def test_what_is_set_goes_before_what_the_overlay_says() -> None:
    template = worker("r1-gke-h200", worker_env={"NCCL_NET_PLUGIN": "gIB", "NCCL_DEBUG": "INFO"}, privileged=False)
    assert env(template)["NCCL_NET_PLUGIN"] == "gIB"
    assert env(template)["NCCL_DEBUG"] == "INFO"
    assert env(template)["NCCL_TUNER_PLUGIN"] == "none"
    assert "privileged" not in template["spec"]["containers"][0]["securityContext"]
    assert worker("r1-coreweave", rdma_per_pod=4)["spec"]["containers"][0]["resources"]["limits"]["rdma/ib"] == "4"


def test_an_overlay_can_be_left_out_or_taken_for_another_profile() -> None:
    assert "NCCL_IB_HCA" not in env(worker("r1-coreweave", provider="none"))
    assert env(worker("r1-32", provider="coreweave"))["NCCL_IB_HCA"] == "ibp"


def test_an_overlay_of_ones_own_is_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("worker_env: {NCCL_IB_HCA: mlx5}\nrdma_resource: rdma/hca\n")
    template = worker("r1-32", provider=str(file))
    assert env(template)["NCCL_IB_HCA"] == "mlx5"
    assert template["spec"]["containers"][0]["resources"]["limits"]["rdma/hca"] == "8"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("worker_envs: {A: b}\n", "Did you mean 'worker_env'"),
        ("- a\n", "is list, and an overlay is a mapping"),
        ("rdma_per_pod: many\n", "rdma_per_pod = 'many'"),
        ("worker_env: {A: [\n", "cannot be read"),
        ("worker_volumes: [{name: x}]\n", "a volume has a name, a mountPath and one source"),
    ],
)
def test_a_file_that_is_no_overlay_is_refused_with_the_reason(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(text)
    with pytest.raises(Refused, match=message):
        overlay(str(file))


@pytest.mark.parametrize("name", ["corewaeve", "/no/such/overlay.yaml", "", "/dev/null"])
def test_an_unknown_provider_is_refused(name: str) -> None:
    with pytest.raises(Refused, match="provider"):
        with_overlay(ClusterOptions(), name)


def test_an_overlay_is_applied_once() -> None:
    once = with_overlay(ClusterOptions(), "gke")
    assert once.provider == "none"
    assert len(once.worker_volumes) == len(with_overlay(once, once.provider or "").worker_volumes)
