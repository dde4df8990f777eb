"""A GPU of another vendor: its Kubernetes resource is its own, and engines for other GPUs refuse it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from wideloop.manifests import profiles
from wideloop.manifests.deployment import DeploymentSpec, WorkerSpec
from wideloop.manifests.engines import engine_names, get_engine
from wideloop.manifests.kubernetes import smoke_test
from wideloop.manifests.kubernetes.dynamo import render
from wideloop.manifests.kubernetes.options import ClusterOptions

_PROFILE = """
name: mi300x-8
title: 8 x MI300X, one node
gpu:
  name: AMD Instinct MI300X
  device_name: AMD_Instinct_MI300X
  vendor: amd
  memory_gib: 192
  usable_gib: 189
  bandwidth_gb_s: 5300
  bf16_tflops: 1307
  fp8_tflops: 2614
  peer_gb_s: 448
  source: AMD Instinct MI300X data sheet
nodes: 1
gpus_per_node: 8
fabric: none
fabric_gb_s: 0
workers:
  aggregated: {nodes: 1, gpus_per_node: 8, tp: 8, dp: 8, ep: 8}
"""


@pytest.fixture
def mi300x(tmp_path: Path) -> DeploymentSpec:
    file = tmp_path / "mi300x-8.yaml"
    file.write_text(_PROFILE)
    hardware = profiles.hardware(str(file))
    worker = WorkerSpec(role="aggregated", layout=hardware.workers["aggregated"])
    return DeploymentSpec(
        name="mi300x",
        target="dynamo",
        engine="dynamo-sglang",
        engine_version="0.5.21",
        image="sha256:0",
        model=profiles.model("Qwen3-235B-A22B-FP8"),
        model_path="/model-cache/m",
        hardware=hardware,
        workers=(worker,),
    )


@pytest.mark.parametrize("api_version", ["v1beta1", "v1alpha1"])
def test_its_pods_ask_for_the_resource_of_its_vendor(mi300x: DeploymentSpec, api_version: str):
    options = ClusterOptions.model_validate({"engine_image": "e:1.6.1", "api_version": api_version})
    text = json.dumps(render(mi300x, options)[0])
    assert "nvidia.com/gpu" not in text
    assert ('"amd.com/gpu": "8"' in text) if api_version == "v1beta1" else ('"gpu": "8"' in text)
    assert '"key": "amd.com/gpu", "operator": "Exists"' in text


def test_a_smoke_test_asks_for_the_resource_it_is_given():
    (job,) = smoke_test.documents(ClusterOptions(), "i@sha256:0", ("torch",), gpu="amd.com/gpu")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["resources"] == {"limits": {"amd.com/gpu": "1"}}


@pytest.mark.parametrize("name", [name for name in engine_names() if not get_engine(name).simulated])
def test_an_engine_for_nvidia_gpus_refuses_it(mi300x: DeploymentSpec, name: str):
    refusals = [f for f in get_engine(name).validate(mi300x.changed(engine=name)) if f.field == "hardware"]
    assert [str(f) for f in refusals] == [
        f"error: hardware = 'mi300x-8': its GPUs (AMD Instinct MI300X) are AMD's, and engine {name} runs on NVIDIA "
        "only. Use a hardware profile with GPUs of NVIDIA, e.g. h200-8, or another engine"
    ]


def test_vendor_and_resource_survive_storing_the_deployment(mi300x: DeploymentSpec):
    read = DeploymentSpec.model_validate_json(mi300x.model_dump_json())
    assert (read.hardware.gpu.vendor, read.hardware.gpu.resource) == ("amd", "amd.com/gpu")
    assert read.fingerprint == mi300x.fingerprint


def test_the_resource_of_another_device_plugin_is_kept():
    gpu = profiles.hardware("h200-8").gpu.changed(resource="nvidia.com/mig-3g.71gb")
    assert gpu.model_dump()["resource"] == "nvidia.com/mig-3g.71gb"
