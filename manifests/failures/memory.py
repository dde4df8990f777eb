"""Out of GPU memory, told by its own words only, and how much was missing where the log says so."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from wideloop.manifests.failures.cause import Cause, cause

#: By the first letter of the unit; PyTorch writes powers of 1024.
_GIB = {"B": 1 / 1024**3, "K": 1 / 1024**2, "M": 1 / 1024, "G": 1.0, "T": 1024.0}
_SIZE = r"(?P<{0}>[\d.]+) ?(?P<{0}_unit>(?:[KMGT]i?)?B|bytes)"
#: PyTorch's two forms: "of which 18.31 MiB is free", and the older "1.20 GiB free".
_ALLOCATION = re.compile(
    r"Tried to allocate " + _SIZE.format("need") + r".{0,200}?" + _SIZE.format("free") + r" (?:is )?free", re.DOTALL
)
#: NCCL and CUDA name the bytes that they wanted and not those that were free: at most so much is missing.
_BYTES = re.compile(r"(?:Failed to CUDA (?:calloc|malloc)(?: async)?|cudaMalloc(?:Async)? (?:of|for)) (?P<bytes>\d+)")
#: vLLM: "(9.2 GiB KV cache is needed, which is larger than the available KV cache memory (4.1 GiB)".
_KV_NEED = re.compile(
    r"\(" + _SIZE.format("need") + r" KV cache is needed.{0,120}?memory \(" + _SIZE.format("free"), re.DOTALL
)
#: SGLang: the fraction that was set, the least that would do, and the memory that they are fractions of.
_FRACTION = re.compile(r"--mem-fraction-static=(?P<set>\d(?:\.\d+)?).{0,60}?above (?P<least>\d(?:\.\d+)?)", re.DOTALL)
_BEFORE_WEIGHTS = re.compile(r"Load weight begin\. avail mem=([\d.]+) GB")
_PROCESS = re.compile(r"Process (?P<pid>\d+) has " + _SIZE.format("held") + r" memory in use")
_OTHERS_LEAST_GIB = 1.0

CAUSES: tuple[Cause, ...] = (
    cause(
        "out_of_memory",
        r"Loaded weights leave no GPU memory for the KV cache|Raise --mem-fraction-static above|"
        r"No available memory for the cache blocks|KV cache is needed, which is larger than the available|"
        r"Not enough memory\. Please try to increase --mem-fraction-static|Memory pool size is too small|"
        r"(?:KV cache|GPU|device) memory is (?:negative|not enough|insufficient|exhausted)|"
        r"insufficient (?:GPU )?memory .{0,40}KV cache|KV cache.{0,60}(?:not enough|insufficient) (?:GPU )?memory",
        "the weights leave no memory for the KV cache",
        "Raise mem_fraction_static or use fewer redundant experts",
    ),
    cause(
        "out_of_memory",
        r"(?:mamba|linear-attention|hybrid|state)\S* .{0,40}?(?:state )?cache(?: is)? (?:is )?too small|"
        r"Not enough GPU memory for .{0,80}(?:state|cache)",
        "the cache of the model's linear-attention states holds no request",
        "Raise mem_fraction_static or lower max_running_requests",
    ),
    cause(
        "out_of_memory",
        r"Capture (?:\w+ ){0,3}cuda graph failed.*out of memory|out of memory.*captur\w+ .*graph",
        "out of memory while capturing CUDA graphs",
        "Lower mem_fraction_static or cuda_graph_max_bs",
    ),
    cause(
        "out_of_memory",
        r"(?:Prefill|Decode) out of memory\. Try to lower|alloc_\w+ runs out of memory|^Out of memory\. Try to lower|"
        r"out of memory even after retracting",
        "the KV cache was full",
        "Raise mem_fraction_static, or lower the concurrency or max_running_requests",
    ),
    cause(
        "bad_configuration",
        r"DefaultCPUAllocator: (?:can't|not enough)|std::bad_alloc|^MemoryError|cudaHost(?:Alloc|"
        r"Register).{0,80}memory|"
        r"pin(?:ned)?[ _]memory.{0,60}(?:out of memory|failed)|OSError: \[Errno 12\]|BlockingIOError: \[Errno 11\]",
        "it found no more memory of the host",
        "Raise WIDELOOP_CLUSTER__WORKER_MEMORY, or free memory of the host; shared memory counts too",
    ),
    cause(
        "bad_configuration",
        r"out of resources?: shared memory|OutOfResources.{0,40}shared memory|uses too much shared data",
        "a kernel needs more of a GPU's shared memory than that GPU has",
        "Use another attention backend or MoE runner, or an engine version that has this GPU's kernels tuned",
        infeasible=True,
    ),
    cause(
        "out_of_memory",
        r"OutOfMemoryError|(?:CUDA|HIP|GPU|device)(?: error| failure| driver error)?:? ?(?:\d+ )?'?out of memory|"
        r"\[CUDA\]: out of memory|Failed to CUDA (?:calloc|malloc)|CU(?:BLAS|DNN|SPARSE)_STATUS_ALLOC_FAILED|"
        r"CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAllocation|(?:cudaMalloc|cuMemCreate|cuMemAlloc)\w*.{0,80}"
        r"out of memory|hipErrorOutOfMemory|insufficient GPU memory|CUDA out of memory",
        "out of GPU memory",
        "Lower mem_fraction_static, chunked_prefill_size or redundant_experts",
    ),
)

HELD_BY_OTHERS = cause(
    "node_lost",
    r"GPU memory.{0,20}unbalanced|memory capacity is unbalanced|memory.{0,40}occupied by other processes|"
    r"Free memory on device .{0,80}less than desired GPU memory utilization",
    "another process holds memory of a GPU",
    "Find it with `nvidia-smi` on that node and end it, or cordon the node; then try again",
)


def deficit_gib(texts: Iterable[str], log: Sequence[str]) -> float | None:
    """GiB per GPU that were missing, at the rank that missed most; None where the log does not say."""
    amounts = [amount for text in texts if (amount := _missing(text, log)) is not None]
    return max(amounts, default=None)


def _missing(text: str, log: Sequence[str]) -> float | None:
    for pattern in (_ALLOCATION, _KV_NEED):
        if match := pattern.search(text):
            return max(_gib(match, "need") - _gib(match, "free"), 0.0)
    if match := _BYTES.search(text):
        return int(match["bytes"]) / 1024**3
    if match := _FRACTION.search(text):
        total = next((float(m[1]) for line in log if (m := _BEFORE_WEIGHTS.search(line))), None)
        return None if total is None else max(float(match["least"]) - float(match["set"]), 0.0) * total
    return None


def others_gib(text: str) -> float:
    """GiB that other processes held when an allocation failed that would have fitted without them, else 0.

    PyTorch lists the processes on the GPU. Its own is "this process", or, in a container that sees no pids of the host,
    one of the others: then the largest counts as its own.
    """
    match = _ALLOCATION.search(text)
    if match is None:
        return 0.0
    held = sorted(_gib(process, "held") for process in _PROCESS.finditer(text))
    others = sum(held if "this process has" in text else held[:-1])
    enough = _gib(match, "need") <= _gib(match, "free") + others
    return others if others >= _OTHERS_LEAST_GIB and enough else 0.0


def _gib(match: re.Match[str], name: str) -> float:
    return float(match[name]) * _GIB[match[f"{name}_unit"][0].upper()]
