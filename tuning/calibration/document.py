r"""docs/performance.md: every load, predicted and measured, and the constants before and after fitting.

    python -m wideloop.tuning.calibration.document h200-8 tests/data/gpu docs/gpu/tuned docs/gpu/graphs \
        > docs/performance.md

The first argument is the hardware profile, the others are folders as :mod:`tuning.calibration.loads` describes, in the
order in which their servers were started.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from wideloop.manifests import profiles
from wideloop.manifests.hardware import HardwareProfile
from wideloop.tuning.calibration.chunk_sizes import chunk_sizes
from wideloop.tuning.calibration.gains import gains
from wideloop.tuning.calibration.loads import Load, read_loads
from wideloop.tuning.calibration.timing import FITTED, eager, errors, fit, predict, split
from wideloop.tuning.calibration.variants import BEFORE, RULES, SHIPPED, Variant

_HEAD = """# How long steps take

`tuning.performance` predicts the time of a prefill chunk and of a decode step from the model's shape, the GPU's data
sheet and the placement. This page compares predictions with closed-loop loads of real servers with warm caches and
tuned kernels. It is made by

    python -m wideloop.tuning.calibration.document {arguments} > docs/performance.md

The popularity of experts is the recorded one, prefill ran without CUDA graphs, and a trial is predicted as decode steps
at the batch that the KV cache allows, with its prompts' chunks in between. Tests check that the page is current."""

_CALIBRATION = """## Calibration

The constants are fitted to the loads of every other server by start order and validated with the other loads, as was
the model `before`, with the first {earlier} loads. Of servers that this
product's own driver measured, steps and chunks come from the engine's log, and a trial is the whole load
(`tuning.calibration.steps`). Servers of one configuration stand on both sides, and the terms below were chosen with
both sides known: the loads held out validate the constants, not the choice of terms.

New since then: expert products have the efficiency of other products, and the remaining cost of a token's rows no
longer depends on the hottest rank (`row_passes`); a decode step without a graph takes the sum of host and GPU time; a
client's time per output token includes the prompts of other requests. The last change makes some rows of the first
loads worse (decode as a client measured it, with graphs), and separately measured steps much better."""

_RULES = """### Steps without a graph

Each rule has its own constants, fitted to the same loads. Mean absolute error; the last two columns are of all
decode steps and trials without graphs, by the model's layers.

| rule | ms of host per layer | loads fitted to | loads held out | no graphs, 8 layers | no graphs, 24 layers |
|---|---|---|---|---|---|
{rows}

The soft maximum, (host^p + GPU^p)^(1/p) with p = 1.5, is slightly better on all loads held out, because its longer
host time fits the prefill of 24 layers. For decode steps it is not better: 24 layers decoded in 51 to 55 ms, GPU
included, whatever the batch, so host time cannot exceed 2.3 ms per layer; and its gain on 8 layers is within their
scatter (21 to 31 ms for one configuration). The sum needs no constant of its own. For chunks the sum is
wrong: 8192 and 16384 tokens per chunk were prefilled at the same rate."""

_REPORTED = """### Against the throughput that was reported

The product reports the throughput of a load's plateau. Equally long requests of a closed loop run in waves, and three
waves have no plateau: among equal servers, one figure equals the whole load's and another is {most:.0%} below. These
figures are not fitted.

{summary}"""

_GAINS = """## What a placement is worth

Every pair of loads that differ in placement only, by group of equal servers: gain of the means, in brackets the
lowest and the highest pair. Nothing was fitted to these ratios. "reported" as above.

| servers | load | in order / placed | measured | predicted before | predicted |
|---|---|---|---|---|---|
"""

_CHUNKS = """## What the prefill chunk is worth

Trials whose KV cache and graphs held the whole load (384 requests of 2048 + 128 tokens), by chunk size. No two of them
differ in the chunk alone, so every row includes the scatter of other knobs. From 8192 to 16384 tokens no difference
exceeds it; 4096 lost a fifth to a quarter, in the only such trial. Whole chunks of 8192 and of 16384 were prefilled
at the same rate, too (below).

| servers | chunk | trials | R | output tok/s, mean (lowest to highest) | predicted |
|---|---|---|---|---|---|
"""

_ROWS = """## Load by load

Decode and step in ms per output token, prefill in prompt tokens/s, trials in output tokens/s. The largest misses are
decode steps without graphs, for which one configuration took 21 to 31 ms (other servers were importing meanwhile); a
trial of small chunks (r4 t06); trial-9fe6d1b1f4 and trial-619e0d105d, whose steps were as fast as others' while their
loads took longer; and q24's prefill, whose chunks take longer than its host's time per layer.

| load | R | graphs to | measured | before | after | off before | off after | |
|---|---|---|---|---|---|---|---|---|
"""
_KINDS: dict[str, Callable[[Load], bool]] = {
    "prefill chunks": lambda x: x.kind == "prefill",
    "decode steps, graphs": lambda x: x.kind == "step" and not eager(x),
    "decode steps, no graphs": lambda x: x.kind == "step" and eager(x),
    "ms per token that a client saw, graphs": lambda x: x.kind == "decode" and not eager(x),
    "ms per token that a client saw, no graphs": lambda x: x.kind == "decode" and eager(x),
    "trials, graphs": lambda x: x.kind == "trial" and not eager(x),
    "trials, no graphs": lambda x: x.kind == "trial" and eager(x),
}


def page(profile: str, folders: Sequence[Path]) -> str:
    """The whole page.

    Raises:
        FileNotFoundError: a folder lacks its files.
    """
    hardware = profiles.hardware(profile)
    loads = [load for folder in folders for load in read_loads(folder, _file(folder))]
    reported = [load for folder in folders if _file(folder) != "loads.csv" for load in read_loads(folder)]
    earlier = sum(len(read_loads(folder)) for folder in folders if _file(folder) == "loads.csv")
    parts = (
        _HEAD.format(arguments=" ".join((profile, *map(str, folders)))),
        _CALIBRATION.format(earlier=earlier),
        *_calibration(loads, hardware),
        _REPORTED.format(most=_most_below(reported, loads), summary=_summary({"reported": reported}, hardware)),
        _GAINS + "\n".join(gains(loads, reported, hardware)),
        _CHUNKS + "\n".join(chunk_sizes(loads, hardware)),
        _ROWS + "\n".join(_rows(loads, reported, hardware)),
    )
    return "\n\n".join(parts) + "\n"


def _file(folder: Path) -> str:
    return "steps.csv" if (folder / "steps.csv").exists() else "loads.csv"


def _most_below(reported: Sequence[Load], loads: Sequence[Load]) -> float:
    whole = {load.server.name: load.measured for load in loads if load.kind == "trial"}
    return max((1 - load.measured / whole[load.server.name] for load in reported), default=0.0)


def _calibration(loads: Sequence[Load], hardware: HardwareProfile) -> tuple[str, str, str]:
    used, held_out = split(loads)
    fitted = {rule: fit(used, hardware, Variant(model=model)) for rule, model in RULES.items()}
    ours = next(iter(fitted.values()))
    constants = ["| constant | before | fitted | shipped |", "|---|---|---|---|"] + [
        f"| {name} | " + " | ".join(f"{getattr(v.constants, name):.3g}" for v in (BEFORE, ours, SHIPPED)) + " |"
        for name in ("grouped_matmul", *FITTED)
    ]
    no_graph = [load for load in loads if eager(load)]
    shapes = [[x for x in no_graph if x.server.model.num_layers == layers] for layers in (8, 24)]
    rules = [
        f"| {rule} | {v.constants.eager_layer_ms:.2f} | "
        + " | ".join(f"{_mean(part, hardware, v):.1%}" for part in (used, held_out, *shapes))
        + " |"
        for rule, v in fitted.items()
    ]
    summary = _summary({"fitted to": used, "**held out**": held_out}, hardware)
    return "\n".join(constants), summary, _RULES.format(rows="\n".join(rules))


def _mean(loads: Sequence[Load], hardware: HardwareProfile, variant: Variant) -> float:
    return statistics.fmean(map(abs, errors(loads, hardware, variant)))


def _summary(parts: dict[str, list[Load]], hardware: HardwareProfile) -> str:
    lines = [
        "| absolute error: median, mean, largest | | loads | before | after |",
        "|---|---|---|---|---|",
    ]
    for kind, is_kind in _KINDS.items():
        for part, loads in parts.items():
            some = [load for load in loads if is_kind(load)]
            if some:
                cells = (_spread(errors(some, hardware, variant)) for variant in (BEFORE, SHIPPED))
                lines.append(f"| {kind} | {part} | {len(some)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _spread(relative_errors: Sequence[float]) -> str:
    off = [abs(e) for e in relative_errors]
    return f"{statistics.median(off):.1%}, {statistics.fmean(off):.1%}, {max(off):.1%}"


def _rows(loads: Sequence[Load], reported: Sequence[Load], hardware: HardwareProfile) -> list[str]:
    used, _ = split(loads)
    lines = [_row(load, "fitted to" if load in used else "held out", hardware) for load in loads]
    return lines + [_row(load, "reported, in no fit", hardware) for load in reported]


def _row(load: Load, part: str, hardware: HardwareProfile) -> str:
    knobs = load.server.worker.knobs
    predictions = [predict(load, hardware, variant) for variant in (BEFORE, SHIPPED)]
    numbers = [f"{v:.2f}" if load.measured_in_ms else f"{v:,.0f}" for v in (load.measured, *predictions)]
    off = [f"{v / load.measured - 1:+.1%}" for v in predictions]
    cells = (load.name, knobs.redundant_experts, knobs.cuda_graph_max_bs, *numbers, *off, part)
    return f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    sys.stdout.write(page(sys.argv[1], [Path(folder) for folder in sys.argv[2:]]))
