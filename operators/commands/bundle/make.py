"""Pack the pinned wheels of a GPU host, without the parts that such a host cannot use, into one archive."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from wideloop import manifests
from wideloop.manifests.errors import TargetError

_LOCKS = Path(manifests.__file__).parent / "environments"
#: Parts that can be packed, by name of their pins: the host's packages, and those for separate prefill and decode.
PARTS = ("gpu-host", "gpu-host-disaggregated")
#: The host's Python and C library, as uv names them.
PYTHON, PLATFORM = "3.12", "x86_64-manylinux_2_40"
#: Size limit of an archive: larger files cannot be copied to these hosts.
MAX_BYTES = 60 * 2**20

#: Parts of packages that a text server on Hopper never imports: they are nine tenths of the size. FlashAttention 3
#: (``flash_ops``) is among them, so the server needs ``--attention-backend triton`` (or FlashInfer's kernels), and
#: NIXL's expert parallelism (``nixl_ep``), which moves tokens and not KV caches.
_DROPPED = re.compile(
    r"""^(
    sglang/multimodal_gen/ | sglang/test/ |
    sglang/lang/(?!chat_template|interpreter|ir|api|backend|choices|tracer|__init__) |
    sglang/srt/(server|grpc|multimodal)/_core.*\.so |
    sgl_kernel/(flash_ops|flashmla_ops|infllm_ops|spatial_ops|deep_gemm).*\.so | sgl_kernel/sm100/ |
    nixl_ep_cu\d+/.*\.so | nixl_cu\d+\.libs/ucx/libucx_perftest.*\.so.* | include/ |
    flashinfer/data/cutlass/(examples|python|tools)/ | flashinfer/data/cccl/(python|benchmarks|docs|ci)/ |
    bin/ | (.*/)?tests?/ | (.*/)?__pycache__/ | .*\.pyi$
    )""",
    re.VERBOSE,
)


def make(out: Path, uv: str = "uv", part: str = PARTS[0]) -> int:
    """Write the archive ``out`` (tar, xz) and return its size in bytes; equal pins give equal archives.

    Args:
        part: one of :data:`PARTS`.
        uv: the uv program, which fetches wheels for another platform and Python.

    Raises:
        TargetError: a package cannot be fetched, or the archive exceeds :data:`MAX_BYTES`.
    """
    with tempfile.TemporaryDirectory(prefix="bundle-") as scratch:
        site = Path(scratch) / "site"
        _install(site, uv, _LOCKS / f"{part}.txt")
        _drop(site)
        _pack(site, out)
    size = out.stat().st_size
    if size > MAX_BYTES:
        raise TargetError(f"{out} has {size / 2**20:.1f} MiB, at most {MAX_BYTES >> 20} can travel: drop more packages")
    return size


def keeps(path: str) -> bool:
    """Whether the file at ``path`` below site-packages travels."""
    return _DROPPED.match(path) is None


def _install(site: Path, uv: str, requirements: Path) -> None:
    command = [uv, "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", "--target", str(site)]
    command += ["--python-version", PYTHON, "--python-platform", PLATFORM, "--requirement", str(requirements)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise TargetError(f"fetching the packages of {requirements.name} failed:\n{done.stderr[-2000:]}")


def _drop(site: Path) -> None:
    for file in sorted(site.rglob("*"), reverse=True):
        if file.is_dir():
            if not any(file.iterdir()):
                file.rmdir()
        elif not keeps(str(file.relative_to(site))):
            file.unlink()


def _pack(site: Path, out: Path) -> None:
    """One stream, sorted and without times or owners, so that it depends on the files alone."""
    out.parent.mkdir(parents=True, exist_ok=True)
    tar = ["tar", "-C", str(site), "--sort=name", "--mtime=@0", "--owner=0", "--group=0", "-cf", "-", "."]
    with out.open("wb") as sink, subprocess.Popen(tar, stdout=subprocess.PIPE) as packing:
        xz = shutil.which("xz")
        if xz is None:
            raise TargetError("xz is not installed; install xz-utils")
        subprocess.run([xz, "-T0", "-6"], stdin=packing.stdout, stdout=sink, check=True)
