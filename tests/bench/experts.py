"""What analysing expert recordings and advising on redundancy cost, each in a process of its own.

Run as a module, with what to measure and a folder, it does that and prints JSON.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from wideloop.operators.bootstrap import PROJECT

from tests.bench.figure import Figure
from tests.bench.workspace import BenchError, Workspace, environment

#: DeepSeek-R1 as its recorder sees it: 61 layers, 3 of them dense, 256 experts in 288 slots.
LAYERS, DENSE, EXPERTS, SLOTS = 61, 3, 256, 288
STEPS = 1000
#: Passes of a recording of one rank that is 7 GB large.
PASSES = 100_000
SIZES = (8, 16, 32, 64)
ADVICE_S, ANALYSIS_S, MEMORY_MIB = 2.0, 1.0, 1024.0
#: Of the short ones, of which the quickest counts; a shared machine makes times longer, never shorter.
REPEATS = 3
_FREE = 9 * 10**9


def measure(workspace: Workspace) -> list[Figure]:
    """Seconds of the advice's table and of an analysis, memory of reading 7 GB.

    Raises:
        BenchError: one of them failed, or there is no room for 7 GB.
    """
    workspace.say("advising on redundancy, analysing a recording, reading one of 7 GB")
    if shutil.disk_usage(workspace.folder).free < _FREE:
        raise BenchError(f"a recording of 7 GB needs {_FREE / 1e9:.0f} GB free in {workspace.folder}")
    advice, analysis, large = (
        _in_child(measurement, workspace.folder) for measurement in ("advice", "analysis", "large")
    )
    return [
        Figure(
            "advice: 4 EP sizes, all redundancies up to 128, 58 x 256",
            ADVICE_S,
            advice["wall_s"],
            "s",
            f"quickest of {REPEATS}: {advice['rows']} placements and as many on half of the traffic, with memory, "
            f"kernels, buffers and predicted throughput; {advice['cpu_s']:.2f} CPU s",
        ),
        Figure(
            f"analysis of a stat recording of {STEPS} steps",
            ANALYSIS_S,
            analysis["wall_s"],
            "s",
            f"quickest of {REPEATS}: {analysis['mb']:.0f} MB read twice, balance, imbalance, Gini, persistence, drift; "
            f"{analysis['cpu_s']:.2f} CPU s",
        ),
        Figure(
            f"memory for a per_pass recording of {large['gb']:.1f} GB",
            MEMORY_MIB,
            large["mib"],
            "MiB",
            f"peak resident memory of the process; {PASSES} passes read in {large['wall_s']:.1f} s",
        ),
    ]


def _in_child(measurement: str, folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.bench.experts", measurement, str(folder)]
    done = subprocess.run(
        command, env=environment(folder), cwd=PROJECT, capture_output=True, text=True, check=False, timeout=600
    )
    if done.returncode:
        raise BenchError(f"measuring {measurement} failed:\n{(done.stdout + done.stderr)[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _advice(_folder: Path) -> dict[str, float]:
    from wideloop.manifests import profiles
    from wideloop.manifests.deployment import Knobs, WorkerSpec
    from wideloop.manifests.engines import get_engine
    from wideloop.tuning.advice import Traffic, layouts, options, verdict
    from wideloop.tuning.popularity import popularity

    model, hardware = profiles.model("DeepSeek-R1"), profiles.hardware("h200-32")
    knobs = Knobs(mem_fraction_static=0.85, cuda_graph_max_bs=128, chunked_prefill_size=16384, deepep_mode="normal")
    worker = WorkerSpec(role="prefill", layout=hardware.workers["prefill"], knobs=knobs)
    random = np.random.default_rng(0)
    seen, unseen = (random.multinomial(100_000, popularity(model, "prefill")).astype(float) for _ in range(2))

    def whole() -> int:
        rows = 0
        for one in layouts(worker, SIZES):
            traffic = Traffic(2048, 1, 64 * one.layout.dp)
            table = options(model, hardware, one, seen, unseen, traffic, get_engine("sglang"), "0.5.21")
            verdict(table)
            rows += len(table) - 1
        return rows

    return {**_quickest(whole), "rows": whole()}


def _analysis(folder: Path) -> dict[str, float]:
    from wideloop.results import recordings
    from wideloop.tuning import balance
    from wideloop.tuning.placement import trivial
    from wideloop.tuning.simulator import torch_file

    counts = _even(np.random.default_rng(0), (STEPS, LAYERS), EXPERTS, 8)
    file = folder / "expert_distribution_recorder_1.pt"
    torch_file.save(file, {"rank": 0, "logical_count": counts, "average_utilization_rate_over_window": None})
    placement = trivial(LAYERS, EXPERTS, 0, 32)

    def whole() -> None:
        recording = recordings.read_dumps(file, "decode", layers=LAYERS, experts=EXPERTS)
        load, windows = recording.total.astype(float), recording.windows["decode"].astype(float).astype(float)
        balance.balance(load, placement), balance.sglang_balancedness(load, placement)
        balance.imbalance(load, placement), balance.gini(load), balance.persistence(windows, 16)
        balance.drift(windows[0], windows[-1], 16)

    result = {**_quickest(whole), "mb": file.stat().st_size / 1e6}
    file.unlink()
    return result


def _large(folder: Path) -> dict[str, float]:
    """Written and read in two processes: the writer's memory must not count."""
    from wideloop.results import recordings

    file = folder / "expert_distribution_recorder_1_0.pt"
    subprocess.run([sys.executable, "-m", "tests.bench.experts", "write", str(file)], check=True, cwd=PROJECT)
    began = time.perf_counter()
    recorded = recordings.read_dumps(file, "decode", layers=LAYERS, experts=EXPERTS)
    took, size = time.perf_counter() - began, file.stat().st_size
    file.unlink()
    if recorded.passes["decode"] != PASSES:
        raise SystemExit(f"{recorded.passes} passes were read, {PASSES} written")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"wall_s": took, "gb": size / 1e9, "mib": peak}


def _write(file: Path) -> dict[str, float]:
    from wideloop.tuning.simulator import torch_file

    random = np.random.default_rng(0)
    # A few passes over and over: what they hold makes no difference to the reader.
    passes = list(_even(random, (16, LAYERS), SLOTS, 4))
    records = [
        {"forward_pass_id": i, "rank": 0, "gatherer_key": "primary", "global_physical_count": passes[i % len(passes)]}
        for i in range(PASSES)
    ]
    table = np.tile(np.arange(SLOTS, dtype=np.int64) % EXPERTS, (LAYERS, 1))
    torch_file.save(file, {"records": records, "last_physical_to_logical_map": table})
    return {"gb": file.stat().st_size / 1e9}


def _even(random: np.random.Generator, shape: tuple[int, int], width: int, mean: int) -> Any:
    """Counts [*shape, width] with the same total in each layer with experts, as a router makes them."""
    counts = random.multinomial(mean * width, np.full(width, 1 / width), size=shape).astype(np.int32)
    counts[:, :DENSE] = 0
    return counts


def _quickest(work: Callable[[], object]) -> dict[str, float]:
    best = (np.inf, np.inf)
    for _ in range(REPEATS):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        best = min(best, (time.perf_counter() - wall, time.process_time() - cpu))
    return {"wall_s": best[0], "cpu_s": best[1]}


_MEASURED = {"advice": _advice, "analysis": _analysis, "large": _large, "write": _write}

if __name__ == "__main__":
    print(json.dumps(_MEASURED[sys.argv[1]](Path(sys.argv[2]))))
