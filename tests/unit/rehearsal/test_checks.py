"""What a rehearsed worker refuses although the engine's parsers take its command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from wideloop.manifests.deployment import DeploymentSpec
from wideloop.operators.request import Request

from tests.cluster.rehearsal.checks import problems


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "a.safetensors"}}))
    (folder / "a.safetensors").write_bytes(b"x")
    return folder


@pytest.fixture
def spec() -> DeploymentSpec:
    params = {"target": "dynamo", "engine": "dynamo-sglang", "model": "DeepSeek-R1", "hardware": "h200-32"}
    return Request.from_params(params).spec("one", "sha256:0", "/m")


@pytest.fixture
def parsed(spec: DeploymentSpec, model: Path) -> dict[str, Any]:
    """As SGLang 0.5.21 parses the prefill worker's line."""
    knobs = spec.worker("prefill").knobs
    return {
        "disaggregation_mode": "prefill",
        "disaggregation_bootstrap_port": 30001,
        "nnodes": 2,
        "node_rank": 0,
        "dist_init_addr": "leader:29500",
        "tp_size": 16,
        "dp_size": 16,
        "ep_size": 16,
        "host": "0.0.0.0",
        "model_path": str(model),
        "served_model_name": spec.model.name,
        "ep_num_redundant_experts": 0,
        "mem_fraction_static": knobs.mem_fraction_static,
        "expert_distribution_recorder_mode": None,
        "enable_eplb": False,
        "moe_a2a_backend": "deepep",
        "deepep_mode": "normal",
        "cuda_graph_max_bs_decode": None,
        "init_expert_location": "trivial",
    }


@pytest.fixture
def environment() -> dict[str, str]:
    gpus = ",".join(f"GPU-{number}" for number in range(8))
    return {"DYN_SYSTEM_ENABLED": "true", "DYN_SYSTEM_PORT": "9090", "NVIDIA_VISIBLE_DEVICES": gpus}


def test_the_products_own_worker_has_no_problem(
    parsed: dict[str, Any], environment: dict[str, str], spec: DeploymentSpec
) -> None:
    assert problems(parsed, environment, spec) == []


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"nnodes": 1}, "--tp-size 16 with 1 node(s) of 8 GPU(s) each"),
        ({"node_rank": 2}, "--node-rank 2 of 2"),
        ({"dist_init_addr": None}, "--nnodes 2 with --dist-init-addr None"),
        ({"ep_size": 3}, "--tp-size 16 does not divide by --ep-size 3"),
        ({"disaggregation_bootstrap_port": None}, "a prefill worker without --disaggregation-bootstrap-port"),
        ({"host": "127.0.0.1"}, "--host 127.0.0.1 cannot be reached from other pods"),
        ({"ep_num_redundant_experts": 3}, "259 experts with their copies do not divide by --ep-size 16"),
        ({"expert_distribution_recorder_mode": "stat"}, "the recorder has no SGLANG_EXPERT_DISTRIBUTION_RECORDER_DIR"),
        ({"init_expert_location": "/nowhere.json"}, "--init-expert-location /nowhere.json is not in the pod"),
        ({"mem_fraction_static": 0.5}, "mem_fraction_static: 0.5 on the command line"),
        (
            {"deepep_mode": "low_latency", "cuda_graph_max_bs_decode": 256},
            "DeepEP dispatches 128 tokens per rank for CUDA graphs of 256 requests",
        ),
    ],
)
def test_a_worker_that_the_engine_would_not_start_is_told(
    parsed: dict[str, Any], environment: dict[str, str], spec: DeploymentSpec, changed: dict[str, Any], told: str
) -> None:
    found = problems(parsed | changed, environment, spec)
    assert any(problem.startswith(told) for problem in found), found


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("NVIDIA_VISIBLE_DEVICES", "GPU-0", "--tp-size 16 with 2 node(s) of 1 GPU(s) each"),
        ("DYN_SYSTEM_PORT", "9091", "Dynamo's system server is not enabled at 9090"),
        ("DYN_SYSTEM_ENABLED", "false", "Dynamo's system server is not enabled at 9090"),
    ],
)
def test_an_environment_in_which_probes_or_ranks_would_fail_is_told(
    parsed: dict[str, Any], environment: dict[str, str], spec: DeploymentSpec, name: str, value: str, told: str
) -> None:
    found = problems(parsed, environment | {name: value}, spec)
    assert any(problem.startswith(told) for problem in found), found


def test_a_shard_that_is_not_there_is_told(
    parsed: dict[str, Any], environment: dict[str, str], spec: DeploymentSpec, model: Path
) -> None:
    (model / "a.safetensors").unlink()
    assert problems(parsed, environment, spec) == [f"--model-path {model} has no a.safetensors"]
