"""What the script of the smoke test records, run in a process of its own with stand-ins for the large modules."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from wideloop.manifests import smoke_test

_TORCH = """
import os
class version: cuda = "13.0"
class cuda:
    device_count = staticmethod(lambda: int(os.environ["GPUS"]))
    get_arch_list = staticmethod(lambda: ["sm_90", "sm_100"])
    def set_device(rank): open(os.environ["RANKS"] + str(rank), "w")
"""


def run(folder: Path, *modules: str, gpus: int = 0) -> subprocess.CompletedProcess[str]:
    (folder / "torch").mkdir(exist_ok=True)
    (folder / "torch" / "__init__.py").write_text(_TORCH)
    (folder / "torch" / "distributed.py").write_text("raise RuntimeError('no NCCL here')\n")
    (folder / "deep_ep.py").write_text("__version__ = '1.2.1'\n")
    env = {**os.environ, "PYTHONPATH": str(folder), "GPUS": str(gpus), "RANKS": f"{folder}/rank"}
    command = [sys.executable, "-c", smoke_test.SCRIPT, *modules]
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False)


def test_versions_architecture_and_cuda_are_recorded(tmp_path: Path) -> None:
    record = smoke_test.versions(run(tmp_path, "json", "torch").stdout)
    assert record[smoke_test.ARCH] in ("amd64", "arm64")
    assert (record[smoke_test.CUDA], record[smoke_test.GPU_ARCHS]) == ("13.0", "sm_90 sm_100")
    assert smoke_test.DISPATCH not in record


def test_modules_without_torch_record_no_cuda(tmp_path: Path) -> None:
    assert smoke_test.CUDA not in smoke_test.versions(run(tmp_path, "json").stdout)


@pytest.mark.parametrize("gpus", [0, 1])
def test_a_dispatch_that_cannot_run_is_said_to_be_untried(tmp_path: Path, gpus: int) -> None:
    record = smoke_test.versions(run(tmp_path, "torch", "deep_ep", gpus=gpus).stdout)
    assert record[smoke_test.DISPATCH] == f"not tried: {gpus} GPUs here, it takes 2"
    assert record["deep_ep"] == "1.2.1"


def test_a_dispatch_that_fails_fails_the_test_with_the_ranks_own_words(tmp_path: Path) -> None:
    done = run(tmp_path, "torch", "deep_ep", gpus=2)
    assert done.returncode == 1
    assert "no NCCL here" in done.stderr
    assert "dispatch between two GPUs of this node failed: exit statuses [1, 1]" in done.stderr


def test_a_module_that_is_missing_is_named(tmp_path: Path) -> None:
    done = run(tmp_path, "json", "no_such_module")
    assert done.returncode == 1 and "no_such_module" in done.stderr


def test_the_record_goes_to_the_file_that_the_job_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WIDELOOP_RESULT", str(tmp_path / "result"))
    done = run(tmp_path, "json")
    assert json.loads((tmp_path / "result").read_text()) == smoke_test.versions(done.stdout)
