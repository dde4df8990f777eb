"""Whether SGLang has a tuned kernel for the experts of one GPU.

Its fused-MoE kernel in Triton reads tile sizes from a file that is named by the number of *local physical* experts.
A change of redundancy can therefore lose the tuned sizes silently, which cost 30 % of prefill throughput where it was
measured (SGLang 0.5.17, H200, 68 instead of 64 experts). Other MoE runners choose their own tiles.
"""

from __future__ import annotations

import csv
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from wideloop.manifests.deployment import WorkerSpec
from wideloop.manifests.hardware import GpuSpec
from wideloop.manifests.kernels.files import Shape, tuned_files
from wideloop.manifests.model import ModelSpec

Runner = Literal["triton", "deep_gemm", "flashinfer_trtllm"]
_TABLE = Path(__file__).with_name("tuned.csv")
#: Architectures that SGLang moves to FlashInfer's kernels on Blackwell when no all-to-all back end is chosen
#: (0.5.17 and 0.5.21, ``arg_groups/overrides.py``, ``model_overrides/qwen3_moe.py``).
_FLASHINFER_ON_BLACKWELL = ("DeepseekV3ForCausalLM", "Qwen3MoeForCausalLM")
_BLACKWELL = ("NVIDIA_B200", "NVIDIA_GB200", "NVIDIA_B300_SXM6_AC", "NVIDIA_GB300")


@dataclass(frozen=True)
class KernelConfig:
    """Whether SGLang has a tuned kernel for one number of local experts.

    Attributes:
        state: ``tuned``, ``default`` (SGLang warns "Using default MoE kernel config") or ``not_needed``.
        runner: the implementation of the experts that runs.
        local_experts: physical experts on one GPU; the file's E.
        file: name of the file that SGLang looks for below ``configs/triton_<version>/``; empty when not needed.
        nearest: local expert counts that have a tuned file of the same N, dtype and device, nearest first.
        table_version: SGLang version whose files were searched; the newest known one up to the requested version.
    """

    state: Literal["tuned", "default", "not_needed"]
    runner: Runner
    local_experts: int
    file: str = ""
    nearest: tuple[int, ...] = ()
    table_version: str = ""


def kernel_config(
    model: ModelSpec,
    ep: int,
    redundant: int,
    gpu: GpuSpec,
    version: str,
    *,
    tp: int | None = None,
    all_to_all: bool = False,
    runner: Runner | None = None,
    own: Collection[str] = (),
) -> KernelConfig:
    """The kernel configuration of a worker with ``redundant`` further experts over ``ep`` ranks.

    Args:
        version: SGLang's, such as ``0.5.21``.
        tp: GPUs of the worker when more than ``ep``: then TP / EP of them share each expert.
        all_to_all: an all-to-all back end (DeepEP) dispatches; its experts run in DeepGEMM.
        runner: chosen by ``--moe-runner-backend``; None for SGLang's own choice.
        own: names of configuration files below the user's ``SGLANG_MOE_CONFIG_DIR``, which replaces SGLang's.

    Raises:
        ValueError: the physical experts do not divide by ``ep``, or the experts' width by TP / EP.
    """
    physical, split = model.num_experts + redundant, (tp or ep) // ep
    if physical % ep or model.moe_intermediate_size % split:
        raise ValueError(f"{physical} experts of width {model.moe_intermediate_size} do not divide by EP {ep}, TP {tp}")
    local = physical // ep
    runner = runner or _chosen(model, gpu, all_to_all)
    if runner != "triton":
        return KernelConfig(state="not_needed", runner=runner, local_experts=local)
    shape = Shape(gpu.device_name, _dtype(model), model.moe_intermediate_size // split)
    table = _nearest_version(version)
    tuned = _own(own, shape) if own else _tuned(table).get(shape, frozenset())
    return KernelConfig(
        state="tuned" if local in tuned else "default",
        runner=runner,
        local_experts=local,
        file=_file_name(shape, local),
        nearest=tuple(sorted(tuned, key=lambda e: (abs(e - local), e))),
        table_version=table,
    )


def worker_kernel(model: ModelSpec, gpu: GpuSpec, worker: WorkerSpec, version: str) -> KernelConfig:
    """:func:`kernel_config` of ``worker`` as its layout and knobs are."""
    layout, knobs = worker.layout, worker.knobs
    return kernel_config(
        model,
        layout.ep,
        knobs.redundant_experts,
        gpu,
        version,
        tp=layout.tp,
        all_to_all=knobs.deepep_mode is not None,
    )


def versions() -> tuple[str, ...]:
    """SGLang versions whose tuned configurations are known, oldest first."""
    return tuple(sorted({v for row in _rows() for v in row["versions"].split()}, key=_number))


def _chosen(model: ModelSpec, gpu: GpuSpec, all_to_all: bool) -> Runner:
    """SGLang's ``--moe-runner-backend auto`` (0.5.17 to 0.5.23, ``quantization/fp8.py`` and ``unquant.py``)."""
    if all_to_all:
        return "deep_gemm"
    if gpu.device_name in _BLACKWELL and model.architecture in _FLASHINFER_ON_BLACKWELL:
        return "flashinfer_trtllm"
    return "triton"


def _dtype(model: ModelSpec) -> str:
    """The data type as the table writes it: empty for 16 bits, else type and side of the weight blocks."""
    if model.weight_bytes == 1:
        return f"fp8_w8a8/{model.scale_block}" if model.scale_block else "fp8_w8a8"
    return "" if model.weight_bytes == 2 else f"{model.weight_bytes * 8:g}bit"


def _file_name(shape: Shape, experts: int) -> str:
    dtype, _, block = shape.dtype.partition("/")
    name = f"E={experts},N={shape.n},device_name={shape.device}"
    name += f",dtype={dtype}" if dtype else ""
    return name + (f",block_shape=[{block}, {block}]" if block else "") + ".json"


def _own(names: Collection[str], shape: Shape) -> frozenset[int]:
    paths = (f"configs/triton_0/{Path(name).name}" for name in names)
    return frozenset(experts for candidate, experts in tuned_files(paths) if candidate == shape)


def _nearest_version(version: str) -> str:
    """The newest known version up to ``version``, or the oldest known when all are newer."""
    table_versions = versions()
    return max((v for v in table_versions if _number(v) <= _number(version)), key=_number, default=table_versions[0])


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


@cache
def _rows() -> tuple[dict[str, str], ...]:
    with _TABLE.open(newline="") as file:
        return tuple(csv.DictReader(file))


@cache
def _tuned(version: str) -> dict[Shape, frozenset[int]]:
    table: dict[Shape, frozenset[int]] = {}
    for row in _rows():
        if version in row["versions"].split():
            shape = Shape(row["device"], row["dtype"], int(row["n"]))
            table[shape] = table.get(shape, frozenset()) | {int(e) for e in row["experts"].split()}
    return table
