"""Hardware profiles of one's own: by path or in a folder, with layouts that the shipped ones do not have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from wideloop.manifests import profiles
from wideloop.manifests.errors import Refused
from wideloop.operators.request import Request

_OWN: dict[str, Any] = {
    "title": "48 x H200, three prefill workers and one decode worker",
    "gpu": "H200-141G",
    "nodes": 6,
    "gpus_per_node": 8,
    "fabric": "InfiniBand",
    "fabric_gb_s": 50,
    "rdma_resource": "rdma/ib",
    "workers": {
        "prefill": {"nodes": 1, "gpus_per_node": 8, "tp": 8, "dp": 8, "ep": 8},
        "decode": {"nodes": 3, "gpus_per_node": 8, "tp": 24, "dp": 24, "ep": 24},
    },
    "replicas": {"prefill": 3},
}
_WORKER = {"nodes": 1, "gpus_per_node": 8, "tp": 8, "dp": 8, "ep": 8}


def write(folder: Path, name: str = "mine.yaml", **changes: Any) -> Path:
    file = folder / name
    file.write_text(yaml.safe_dump({**_OWN, **changes}, sort_keys=False))
    return file


def test_a_file_says_ratio_replicas_and_expert_parallel_width(tmp_path: Path) -> None:
    profile = profiles.hardware(str(write(tmp_path)))
    assert (profile.name, profile.gpus, profile.replicas) == ("mine", 48, {"prefill": 3})
    request = Request.from_params({"hardware": str(tmp_path / "mine.yaml"), "redundant_experts": 16})
    spec = request.spec("d")
    assert [(w.role, w.replicas, w.layout.ep) for w in spec.workers] == [("prefill", 3, 8), ("decode", 1, 24)]
    assert spec.gpus == 48


def test_a_folder_of_profiles_is_offered_beside_the_shipped_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path)
    write(tmp_path, "h200-32.yaml", nodes=1)
    monkeypatch.setenv("WIDELOOP_PROFILES", str(tmp_path))
    assert "mine" in profiles.hardware_names()
    assert profiles.hardware("mine").replicas == {"prefill": 3}
    assert profiles.hardware("h200-32").nodes == 4, "a shipped profile keeps its meaning"
    titles = profiles.hardware_titles()
    assert titles["mine"] == _OWN["title"]
    assert titles["h200-16"] == profiles.hardware("h200-16").title


def test_a_gpu_of_ones_own_is_written_out(tmp_path: Path) -> None:
    gpu = {"name": "NVIDIA H20", "memory_gib": 95.6, "usable_gib": 94.1, "bandwidth_gb_s": 4000, "bf16_tflops": 148,
           "fp8_tflops": 296, "peer_gb_s": 450, "source": "data sheet"}  # fmt: skip
    assert profiles.hardware(str(write(tmp_path, gpu=gpu))).gpu.memory_gib == 95.6


def test_profiles_without_replicas_keep_their_fingerprints() -> None:
    assert "replicas" not in profiles.hardware("h200-32").model_dump()


def test_shipped_profiles_obey_the_rules_for_ones_own() -> None:
    for name in profiles.hardware_names():
        profiles.hardware(name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gpu": "H200"}, "gpu = 'H200': is not known. Did you mean 'H200-141G'"),
        ({"gpu": {"name": "x"}}, "gpu.memory_gib = None: Field required"),
        ({"gpu": {"nmae": "x"}}, r"gpu\.nmae = 'nmae': is not known. Did you mean 'name'"),
        ({"nodess": 6}, "nodess = 'nodess': is not known. Did you mean 'nodes'"),
        ({"nodes": 0}, "nodes = 0: Input should be greater than 0"),
        ({"nodes": "six"}, "nodes = 'six'"),
        ({"nodes": None}, "nodes = None"),
        ({"fabric_gb_s": -1}, "fabric_gb_s = -1"),
        ({"nodes": 5}, "all workers together take 48 GPUs, and 5 nodes of 8 have 40. Use 6"),
        ({"replicas": {"prefill": 4}}, "take 56 GPUs.*Use 7"),
        ({"replicas": {"prefil": 3}}, "Did you mean 'prefill'"),
        ({"replicas": {"aggregated": 3}}, r"replicas\.aggregated = 3: has no worker of that role"),
        ({"replicas": {"prefill": 0}}, "is less than one worker"),
        ({"replicas": 3}, "replicas = 3"),
        ({"workers": {"prefill": _WORKER}, "replicas": {}}, "prefill and decode workers, or aggregated ones"),
        ({"workers": {}, "replicas": {}}, "prefill and decode workers"),
        ({"workers": []}, "workers = "),
        ({"workers": {"prefill": _WORKER, "decode": {**_WORKER, "tp": 4}}}, r"decode\.tp = 4.*Use 8"),
        ({"workers": {"prefill": _WORKER, "decode": {**_WORKER, "ep": 3}}}, r"decode\.ep = 3.*1, 2, 4, 8"),
        ({"workers": {"prefill": _WORKER, "decode": {**_WORKER, "dp": 16}}}, r"decode\.dp = 16"),
        (
            {"workers": {"prefill": _WORKER, "decode": {**_WORKER, "gpus_per_node": 16, "tp": 16}}},
            "a node has 8 GPUs. Use 8",
        ),
        ({"workers": {"prefill": _WORKER, "decode": {**_WORKER, "etp": 1}}}, r"workers\.decode\.etp"),
        ({"workers": {"prefill": _WORKER, "decode": {"nodes": 1}}}, r"workers\.decode\.gpus_per_node = None"),
    ],
)
def test_what_is_wrong_in_a_file_is_refused_with_a_value_that_works(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(Refused, match=message):
        profiles.hardware(str(write(tmp_path, **changes)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds NoneType where a profile is a mapping"),
        ("- a\n", "holds list"),
        ("a: [\n", "cannot be read as YAML"),
        ("x" * 70_000, "is larger than 65536 bytes"),
        ("title: x\n", "gpu = None: Field required"),
        ("? [a, b]\n: c\n", "unhashable key"),
        ("1: 2\n", "is not known"),
    ],
)
def test_a_file_that_is_no_profile_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(text)
    with pytest.raises(Refused, match=message):
        profiles.hardware(str(file))


@pytest.mark.parametrize("path", ["/dev/zero", "/no/such.yaml", "/etc", "./h200-32", "/proc/self/mem"])
def test_a_path_that_is_no_yaml_file_is_refused(path: str) -> None:
    with pytest.raises(Refused, match="is no YAML file"):
        profiles.hardware(path)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "binary.yaml"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(Refused, match="cannot be read as YAML"):
        profiles.hardware(str(file))
