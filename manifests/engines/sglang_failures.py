"""Diagnose a failure from SGLang's last log lines. Out-of-memory errors differ by stage; all end in status -9."""

from __future__ import annotations

import re
from collections.abc import Sequence

from wideloop.manifests.diagnosis import Diagnosis, FailureKind
from wideloop.manifests.engines.base import Component

TAIL = 15
_ALLOCATION = re.compile(
    r"Tried to allocate (?P<need>[\d.]+) (?P<need_unit>[MG]iB).*?"
    r"of which (?P<free>[\d.]+) (?P<free_unit>[MG]iB) is free"
)
_MINIMUM = re.compile(r"Raise --mem-fraction-static above (?P<fraction>[\d.]+)")
_GIB = {"MiB": 1 / 1024, "GiB": 1.0}

#: Pattern of a line, kind, message, action. The first pattern that any line matches is the cause.
_CAUSES: tuple[tuple[str, FailureKind, str, str], ...] = (
    (
        r"Loaded weights leave no GPU memory for the KV cache|Raise --mem-fraction-static above",
        "out_of_memory",
        "the weights leave no memory for the KV cache",
        "Raise mem_fraction_static or use fewer redundant experts",
    ),
    (
        r"Capture cuda graph failed.*out of memory",
        "out_of_memory",
        "out of memory while capturing CUDA graphs",
        "Lower mem_fraction_static or cuda_graph_max_bs",
    ),
    (
        r"OutOfMemoryError|CUDA out of memory|CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED",
        "out_of_memory",
        "out of memory under load",
        "Lower mem_fraction_static, chunked_prefill_size or redundant_experts",
    ),
    (
        # Other NCCL errors (ncclSystemError, ncclRemoteError) come from a peer or the network.
        r"NCCL error.*unhandled cuda error|ncclUnhandledCudaError",
        "out_of_memory",
        "NCCL could not call CUDA at its first use, which nearly always means no memory was left",
        "Lower mem_fraction_static",
    ),
    (
        r"assert num_physical_experts % ep_size == 0|error: unrecognized arguments|error: ambiguous option",
        "bad_configuration",
        "the engine refused its configuration",
        "Check the flags and (experts + redundant) % EP",
    ),
    (
        r"Address already in use",
        "crashed",
        "a port was already in use",
        "Try again: the target picks other ports",
    ),
)


#: Lines that follow the whole traceback: after them a server only waits, at most 65 seconds, before it ends.
_ENDING = re.compile(
    r"Received sigquit from a child process|Sleeping \d+ seconds before crash diagnostics|"
    r"for CUDA coredumps before exiting"
)


def will_die(log: Sequence[str]) -> bool:
    """Whether the server will end although it still runs (and may still answer health checks)."""
    return any(_ENDING.search(line) for line in log)


def diagnose(component: Component, log: Sequence[str], exit_code: int | None) -> Diagnosis:
    """Diagnose a component that has ended, from its log."""
    text = "\n".join(log)
    tail = tuple(line.rstrip("\n") for line in log[-TAIL:])
    for pattern, kind, message, action in _CAUSES:
        if re.search(pattern, text):
            return Diagnosis(
                kind=kind,
                component=component.name,
                message=message + _minimum(text),
                action=action,
                deficit_gib=_deficit(text) if kind == "out_of_memory" else None,
                log_tail=tail,
            )
    return Diagnosis(
        kind="crashed",
        component=component.name,
        message=f"ended with {_status(exit_code)} and no known cause in its log",
        action="Read the log lines below",
        log_tail=tail,
    )


def _deficit(text: str) -> float | None:
    match = _ALLOCATION.search(text)
    if match is None:
        return None
    need = float(match["need"]) * _GIB[match["need_unit"]]
    return max(need - float(match["free"]) * _GIB[match["free_unit"]], 0.0)


def _minimum(text: str) -> str:
    match = _MINIMUM.search(text)
    return f" (mem_fraction_static must be above {match['fraction'].rstrip('.')})" if match else ""


def _status(exit_code: int | None) -> str:
    if exit_code is None:
        return "an unknown status"
    return f"signal {-exit_code}" if exit_code < 0 else f"status {exit_code}"
