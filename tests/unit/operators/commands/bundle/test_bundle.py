from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from wideloop.manifests.errors import TargetError
from wideloop.operators.commands.bundle import make as making
from wideloop.operators.commands.bundle.unpack import unpack


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("sgl_kernel/sm90/common_ops.abi3.so", True),
        ("sgl_kernel/flash_ops.abi3.so", False),
        ("sgl_kernel/sm100/common_ops.abi3.so", False),
        ("sglang/srt/server_args.py", True),
        ("sglang/lang/ir.py", True),
        ("sglang/lang/backend/openai.py", True),
        ("sglang/lang/compiler.py", False),
        ("sglang/multimodal_gen/x.py", False),
        ("flashinfer/data/cutlass/include/cute/a.hpp", True),
        ("flashinfer/data/cutlass/examples/a.cu", False),
        ("pandas/tests/x.py", False),
        ("sglang_router/sglang_router_rs.abi3.so", True),
        ("nixl_cu13.libs/ucx/libuct_cuda.so.0", True),
        ("nixl_cu13.libs/ucx/libucx_perftest_cuda.so.0.0.0", False),
        ("nixl_ep_cu13/nixl_ep_cpp_torch214.cpython-312-x86_64-linux-gnu.so", False),
        ("tvm_ffi/testing.py", True),
        ("bin/uvicorn", False),
    ],
)
def test_what_a_text_server_on_hopper_imports_travels(path: str, kept: bool):
    assert making.keeps(path) is kept


def test_packages_that_cannot_be_fetched_are_named(tmp_path: Path):
    uv = tmp_path / "uv"
    uv.write_text("#!/bin/sh\necho 'no wheel for sgl-kernel' >&2\nexit 1\n")
    uv.chmod(0o755)
    with pytest.raises(TargetError, match="no wheel for sgl-kernel"):
        making.make(tmp_path / "out.txz", str(uv))


@pytest.fixture
def uv(tmp_path: Path) -> str:
    """Installs a package of one module with a console script instead of those that are asked for."""
    script = tmp_path / "uv"
    script.write_text(
        """#!/bin/sh
while [ "$1" != --target ]; do shift; done
case "$*" in *gpu-host-disaggregated.txt) mkdir -p "$2/nixl"; touch "$2/nixl/__init__.py"; exit;; esac
mkdir -p "$2/aiperf/tests" "$2/aiperf-9.dist-info"
echo 'def main(): print("aiperf speaks"); return 0' > "$2/aiperf/cli.py"
touch "$2/aiperf/__init__.py" "$2/aiperf/tests/test_x.py"
printf '[console_scripts]\\naiperf = aiperf.cli:main\\n' > "$2/aiperf-9.dist-info/entry_points.txt"
"""
    )
    script.chmod(0o755)
    return str(script)


def test_equal_packages_make_equal_bundles_that_unpack_into_an_environment(tmp_path: Path, uv: str):
    first, second = tmp_path / "a.txz", tmp_path / "b.txz"
    assert making.make(first, uv) == making.make(second, uv) > 0
    assert first.read_bytes() == second.read_bytes()
    with tarfile.open(first) as archive:
        assert not any("tests" in name for name in archive.getnames())
    python = unpack(first, tmp_path / "env")
    said = subprocess.run([python.with_name("aiperf")], capture_output=True, text=True, check=True)
    assert said.stdout == "aiperf speaks\n"
    # The host's own packages can be imported too.
    subprocess.run([python, "-c", "import pytest"], check=True)
    assert python.resolve() == Path(sys.executable).resolve()
    # What prefill and decode apart need comes over it.
    making.make(second, uv, "gpu-host-disaggregated")
    assert unpack(second, tmp_path / "env") == python
    subprocess.run([python, "-c", "import aiperf, nixl"], check=True)


def test_a_bundle_that_is_too_large_is_refused(tmp_path: Path, uv: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(making, "MAX_BYTES", 10)
    with pytest.raises(TargetError, match="can travel"):
        making.make(tmp_path / "a.txz", uv)
