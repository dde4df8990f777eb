"""The effect of the prefill chunk: throughput of trials by chunk size, where nothing else limited them."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence

from wideloop.manifests.hardware import HardwareProfile
from wideloop.tuning.calibration.loads import Load
from wideloop.tuning.calibration.timing import eager, predict, resident


def chunk_sizes(loads: Sequence[Load], hardware: HardwareProfile) -> list[str]:
    """One table row per series of servers and chunk size; trials whose KV cache and graphs held the whole load."""
    groups: dict[tuple[str, int], list[Load]] = defaultdict(list)
    for load in loads:
        chunk = load.server.worker.knobs.chunked_prefill_size
        if load.kind == "trial" and chunk and not eager(load) and resident(load) >= load.concurrency:
            groups[load.server.name.partition(" ")[0], chunk].append(load)
    return [_row(*key, groups[key], hardware) for key in sorted(groups)]


def _row(call: str, chunk: int, loads: Sequence[Load], hardware: HardwareProfile) -> str:
    measured = [load.measured for load in loads]
    spread = f" ({min(measured):,.0f} to {max(measured):,.0f})" if len(loads) > 1 else ""
    redundant = ", ".join(map(str, sorted({load.server.worker.knobs.redundant_experts for load in loads})))
    predicted = statistics.fmean(predict(load, hardware) for load in loads)
    mean = f"{statistics.fmean(measured):,.0f}{spread}"
    return f"| {call} | {chunk} | {len(loads)} | {redundant} | {mean} | {predicted:,.0f} |"
