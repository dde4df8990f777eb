"""The gain of placing experts, measured and predicted, over all pairs of loads that differ only in placement."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence

from wideloop.manifests.hardware import HardwareProfile
from wideloop.tuning.calibration.loads import Load
from wideloop.tuning.calibration.timing import predict
from wideloop.tuning.calibration.variants import BEFORE, SHIPPED


def gains(loads: Sequence[Load], reported: Sequence[Load], hardware: HardwareProfile) -> list[str]:
    """One table row per group of servers and kind of load; ``reported`` are plateaus of the same servers' loads."""
    return [*_table(loads, "", hardware), *_table(reported, ", reported", hardware)]


def _table(loads: Iterable[Load], note: str, hardware: HardwareProfile) -> list[str]:
    groups: dict[tuple[object, ...], list[Load]] = defaultdict(list)
    for load in loads:
        knobs, call = load.server.worker.knobs, load.server.name.partition(" ")[0]
        groups[call, knobs, load.kind, load.concurrency, load.isl, load.osl, load.evenly_routed].append(load)
    rows = []
    for group in groups.values():
        order, placed = ([x for x in group if x.placed is side] for side in (False, True))
        if order and placed:
            rows.append(_row(order, placed, note, hardware))
    return rows


def _row(order: Sequence[Load], placed: Sequence[Load], note: str, hardware: HardwareProfile) -> str:
    one = order[0]
    knobs, call = one.server.worker.knobs, one.server.name.partition(" ")[0]
    speeds = [[_speed(x, x.measured) for x in side] for side in (order, placed)]
    mean = statistics.fmean(speeds[1]) / statistics.fmean(speeds[0]) - 1
    low, high = min(speeds[1]) / max(speeds[0]) - 1, max(speeds[1]) / min(speeds[0]) - 1
    gains = [
        _speed(one, predict(placed[0], hardware, v)) / _speed(one, predict(one, hardware, v)) - 1
        for v in (BEFORE, SHIPPED)
    ]
    servers = f"{call}, R {knobs.redundant_experts}, graphs to {knobs.cuda_graph_max_bs}"
    load = f"{one.kind}@{one.concurrency}{note}"
    counts = f"{len(order)} / {len(placed)}"
    measured = f"{mean:+.1%} ({low:+.1%} to {high:+.1%})" if len(order) * len(placed) > 1 else f"{mean:+.1%}"
    return f"| {servers} | {load} | {counts} | {measured} | {gains[0]:+.1%} | {gains[1]:+.1%} |"


def _speed(load: Load, value: float) -> float:
    return 1 / value if load.measured_in_ms else value
