"""End as SGLang ends without enough memory: its log lines, then SIGKILL by itself.

The texts are those of SGLang 0.5.17 on two H200s; only the shortage is simulated.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator

from wideloop.manifests.hardware import GpuSpec
from wideloop.tuning.memory import OomStage, WorkerMemory

#: Seconds a simulated worker "loads" before it fails; a real one takes 35 and more.
LOAD_S = 1.0
#: Memory PyTorch still finds free when an allocation fails, MiB.
_FREE_MIB = 18.31


def lines(stage: OomStage, memory: WorkerMemory, gpu: GpuSpec, fraction: float) -> Iterator[str]:
    """The log lines of ``stage``."""
    out_of_memory = (
        f"CUDA out of memory. Tried to allocate {memory.deficit_gib * 1024 + _FREE_MIB:.2f} MiB. "
        f"GPU 0 has a total capacity of {gpu.memory_gib:.2f} GiB of which {_FREE_MIB} MiB is free."
    )
    if stage == "no_kv_left":
        minimum = memory.minimum_fraction
        yield (
            "ValueError: Loaded weights leave no GPU memory for the KV cache under "
            f"--mem-fraction-static={fraction}. Raise --mem-fraction-static above {minimum + 0.0005:.3f} "
            f"(minimum viable = 1 - available/pre = {minimum:.4f})."
        )
    elif stage == "capture":
        yield f"torch.OutOfMemoryError: {out_of_memory}"
        yield f"Exception: Capture cuda graph failed: {out_of_memory}"
        yield "Possible solutions:"
        yield "1. set --mem-fraction-static to a smaller value (e.g., 0.8 or 0.7)"
        yield "2. set --cuda-graph-max-bs-decode to a smaller value (e.g., 16)"
    elif stage == "warm_up":
        yield "torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp, unhandled cuda error"
        yield "ncclUnhandledCudaError: Call to CUDA function failed."
        yield "Last error:"
        yield f"Failed to CUDA calloc {round(memory.deficit_gib * 1024**3)} bytes"
        yield "Waiting 60.0 seconds for CUDA coredumps before exiting. (simulated: not waiting)"
    else:
        yield f"torch.OutOfMemoryError: {out_of_memory}"
        yield "Sleeping 5 seconds before crash diagnostics (simulated: not sleeping)"
    yield "Received sigquit from a child process. It usually means the child failed."


def die(stage: OomStage, memory: WorkerMemory, gpu: GpuSpec, fraction: float) -> None:
    """Print the log lines of ``stage`` and end this process as SGLang ends itself: SIGKILL, status -9."""
    if stage != "under_load":
        time.sleep(LOAD_S)
    for line in lines(stage, memory, gpu, fraction):
        print(line, file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
    # The first process of a container ignores its own signals; the exit status is then the same.
    os._exit(128 + signal.SIGKILL)
