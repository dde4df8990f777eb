from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from wideloop.manifests import profiles
from wideloop.manifests.deployment import DeploymentSpec, WorkerSpec
from wideloop.manifests.engines import get_engine
from wideloop.manifests.errors import TargetError
from wideloop.operators.targets.local import gpus

Smi = Callable[..., None]
FREE = "0, GPU-aa, NVIDIA H200, 143771, 4, 580.159.04\n1, GPU-bb, NVIDIA H200, 143771, 0, 580.159.04\n"


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Smi:
    """Put an ``nvidia-smi`` that prints what is wanted before all others on the PATH."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def write(query_gpu: str, compute_apps: str = "", status: int = 0) -> None:
        (tmp_path / "gpus").write_text(query_gpu)
        (tmp_path / "apps").write_text(compute_apps)
        script = tmp_path / "nvidia-smi"
        script.write_text(
            f'#!/bin/sh\ncase "$1" in --query-gpu*) cat {tmp_path}/gpus;; *) cat {tmp_path}/apps;; esac\n'
            f"exit {status}\n"
        )
        script.chmod(0o755)

    return write


def spec(hardware: str = "h200-2") -> DeploymentSpec:
    profile = profiles.hardware(hardware)
    return DeploymentSpec(
        name="one",
        target="local",
        engine="sglang",
        image="",
        model=profiles.model("Random-Qwen3-MoE-8L"),
        model_path="/m",
        hardware=profile,
        workers=tuple(WorkerSpec(role=r, layout=w) for r, w in profile.workers.items()),
    )


def test_free_gpus_with_a_new_driver_are_fine(smi: Smi):
    smi(FREE)
    assert gpus.gpu_findings(spec(), gpus.read(), "13") == []


def test_no_driver_means_no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    (found,) = gpus.gpu_findings(spec(), gpus.read(), "13")
    assert "no GPU can be seen" in found.rule


def test_a_driver_that_answers_with_an_error_means_no_gpu(smi: Smi):
    smi("NVIDIA-SMI has failed", status=9)
    assert gpus.read() == []


def test_too_few_are_refused_with_the_number_there_is(smi: Smi):
    smi(FREE)
    (found,) = gpus.gpu_findings(spec("h200-8-aggregated"), gpus.read(), "13")
    assert "needs 8 GPUs; this host has 2" in found.rule
    assert "8 GPUs" in found.suggestion and "h200-2" in found.suggestion


def test_the_number_that_prefill_and_decode_need_together_is_said(smi: Smi):
    smi(FREE)
    (found,) = gpus.gpu_findings(spec("h200-4"), gpus.read(), "13")
    assert "needs 4 GPUs (2 to prefill, 2 to decode); this host has 2" in found.rule


@pytest.mark.parametrize(
    ("visible", "prefill", "decode"), [(None, "0,1", "2,3"), ("5, 4,1,0,7", "5,4", "1,0"), ("5,4", None, None)]
)
def test_roles_share_what_is_visible(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, prefill: str | None, decode: str | None
):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    components = get_engine("sglang").components(spec("h200-4"))
    if prefill is None:
        with pytest.raises(TargetError, match="shows 2 GPUs, and 4 are needed"):
            gpus.shares(components)
        return
    shares = gpus.shares(components)
    assert [shares[n]["CUDA_VISIBLE_DEVICES"] for n in ("frontend", "prefill-0", "decode-0")] == ["", prefill, decode]


def test_one_server_sees_what_we_see():
    assert gpus.shares(get_engine("sglang").components(spec("h200-2"))) == {}


def test_a_gpu_in_use_names_its_user_and_nobody_is_ended(smi: Smi):
    smi(FREE.replace("143771, 4", "143771, 70000"), "GPU-aa, 4711, python3\n")
    (found,) = gpus.gpu_findings(spec(), gpus.read(), "13")
    assert "70000 of 143771 MiB" in found.rule and "python3 (process 4711)" in found.rule
    with pytest.raises(TargetError, match="GPU 0 still holds 70000 MiB"):
        gpus.wait_until_free(2, patience_s=0)


def test_memory_of_our_own_standby_is_not_somebody_elses(smi: Smi):
    smi(FREE.replace("143771, 4", "143771, 1600"), "GPU-aa, 4711, python3\nGPU-aa, 4712, python3\n")
    assert gpus.gpu_findings(spec(), gpus.read(), "13", ours={4711, 4712}) == []
    assert gpus.gpu_findings(spec(), gpus.read(), "13", ours={4711}) != []
    gpus.wait_until_free(2, ours={4711, 4712}, patience_s=0)


@pytest.mark.parametrize(
    ("driver", "cuda", "refused"), [("570.1", "13", True), ("570.1", "12", False), ("570.1", None, False)]
)
def test_a_driver_older_than_the_engines_cuda_is_refused(smi: Smi, driver: str, cuda: str | None, refused: bool):
    smi(FREE.replace("580.159.04", driver))
    assert [f.field for f in gpus.gpu_findings(spec(), gpus.read(), cuda)] == (["driver"] if refused else [])


def test_another_gpu_than_the_profiles_is_a_warning(smi: Smi):
    smi(FREE.replace("NVIDIA H200", "NVIDIA H100 80GB HBM3"))
    (found,) = gpus.gpu_findings(spec(), gpus.read(), "13")
    assert found.severity == "warning" and "H100" in found.rule


@pytest.mark.parametrize(("visible", "indices"), [("1", [1]), ("1,0", [1, 0]), ("GPU-bb", [1]), ("", [])])
def test_only_visible_gpus_count(smi: Smi, monkeypatch: pytest.MonkeyPatch, visible: str, indices: list[int]):
    smi(FREE)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [g.index for g in gpus.read()] == indices


@pytest.mark.parametrize(
    ("packages", "major"),
    [
        (["nvidia-cuda-runtime==13.0.96"], "13"),
        (["nvidia-cuda-runtime-cu12==12.8.90"], "12"),
        (["torch==2.11.0"], None),
    ],
)
def test_the_packages_tell_the_cuda_version(packages: list[str], major: str | None):
    assert gpus.cuda_of(packages) == major
