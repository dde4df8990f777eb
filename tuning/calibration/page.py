"""docs/performance.md: every load, predicted and measured, and the constants before and after fitting.

    python -m tuning.calibration.page h200-8 tests/data/gpu > docs/performance.md

The first argument is the hardware profile, the others are folders as :mod:`tuning.calibration.loads` describes.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from manifests import profiles
from manifests.hardware import HardwareProfile
from tuning.calibration.loads import Load, read_loads
from tuning.calibration.timing import BEFORE, FITTED, errors, fit, predict, split
from tuning.performance import CONSTANTS, Constants

_HEAD = """# How long steps take

How long a prefill chunk and a decode step take is predicted by `tuning.performance` from the model's shape, the GPU's
data sheet and the placement. This page holds it against closed-loop loads of real servers with warm caches and tuned
kernels, and is made by

    python -m tuning.calibration.page {arguments} > docs/performance.md

The popularity of experts is the recorded one, prefill ran without CUDA graphs, and a trial is predicted as decode steps
at the batch that the KV cache allows, with its prompts' chunks in between. Tests check that the page is current."""
_UNITS = {"prefill": "prompt tok/s", "decode": "ms per output token", "trial": "output tok/s"}


def page(profile: str, folders: Sequence[Path]) -> str:
    """The whole page.

    Raises:
        FileNotFoundError: a folder lacks its files.
    """
    hardware = profiles.hardware(profile)
    loads = [load for folder in folders for load in read_loads(folder)]
    head = _HEAD.format(arguments=" ".join((profile, *map(str, folders))))
    return "\n\n".join((head, _calibration(loads, hardware), _rows(loads, hardware))) + "\n"


def _calibration(loads: Sequence[Load], hardware: HardwareProfile) -> str:
    used, held_out = split(loads)
    fitted = fit(used, hardware)
    constants = [
        f"| {name} | {getattr(BEFORE, name):.3g} | {getattr(fitted, name):.3g} | {getattr(CONSTANTS, name):.3g} |"
        for name in FITTED
    ]
    judged = (
        ("before, loads fitted to", used, BEFORE),
        ("after, loads fitted to", used, fitted),
        ("before, loads held out", held_out, BEFORE),
        ("**after, loads held out**", held_out, fitted),
    )
    rows = [f"| {title} | {_summary(part, hardware, c)} |" for title, part, c in judged]
    return "\n".join(
        (
            "## Calibration\n",
            "Fitted to the loads of every other server, judged by those of the rest.\n",
            "| constant | before | fitted | shipped |",
            "|---|---|---|---|",
            *constants,
            "",
            "| mean (largest) relative error | " + " | ".join(_UNITS) + " |",
            "|---|---|---|---|",
            *rows,
        )
    )


def _summary(loads: Sequence[Load], hardware: HardwareProfile, constants: Constants) -> str:
    cells = []
    for kind in _UNITS:
        found = [abs(e) for e in errors([x for x in loads if x.kind == kind], hardware, constants)]
        cells.append(f"{statistics.fmean(found):.1%} ({max(found):.1%})" if found else "")
    return " | ".join(cells)


def _rows(loads: Sequence[Load], hardware: HardwareProfile) -> str:
    used, _ = split(loads)
    lines = [
        "## Load by load\n",
        "Decode in ms per output token (median), prefill in prompt tokens/s, trials in output tokens/s. The largest "
        "misses are trials whose batch outgrew the graphs (t00, t05, t11) or whose chunks are small (t06), and q24's "
        "prefill, whose chunks take longer than its host's 2.2 ms per layer. The model has no term for a host that "
        "falls behind while prompts and steps alternate; that it is the host is a guess.\n",
        "| load | R | graphs to | measured | before | after | |",
        "|---|---|---|---|---|---|---|",
    ]
    for load in loads:
        knobs = load.server.worker.knobs
        off = [f"{predict(load, hardware, c) / load.measured - 1:+.1%}" for c in (BEFORE, CONSTANTS)]
        measured = f"{load.measured:,.0f}" if load.kind != "decode" else f"{load.measured:.2f}"
        cells = (load.name, knobs.redundant_experts, knobs.cuda_graph_max_bs, measured, *off)
        lines.append(f"| {' | '.join(map(str, cells))} | {'fitted to' if load in used else 'held out'} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(page(sys.argv[1], [Path(folder) for folder in sys.argv[2:]]))
