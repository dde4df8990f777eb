"""Our placement of experts against SGLang's own algorithm, taken from its wheel, in one process on one thread.

Without a wheel, the algorithm is that of the SGLang which the tests' environments hold.

Run as a module, with the folder that SGLang's algorithm was unpacked to, it measures and prints JSON.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from wideloop.operators.bootstrap import PROJECT
from wideloop.tuning.placement import Placement, balancedness, optimise

from tests.bench.figure import Figure
from tests.bench.workspace import BenchError, Workspace

#: Slots and ranks for 256 experts: one node without redundancy up to what DeepSeek-R1 was published with.
SHAPES = ((288, 32), (256, 8), (288, 16), (288, 72), (320, 64))
LAYERS, EXPERTS = 58, 256
#: Times our CPU time that SGLang's has to be, at least.
TIMES_FASTER = 40.0
MEMBER = "sglang/srt/eplb/eplb_algorithms/deepseek.py"
#: Which has that file, too; made by ``operators/bootstrap.py --tests``.
ENVIRONMENT = "sglang-parser-0.5.21"
RECORDED = PROJECT / "tests" / "unit" / "tuning" / "data" / "h200_sums.npz"
#: Calls of which the quickest counts; a shared machine makes times longer, never shorter.
REPEATS = 5
LIMIT_S = 600.0
#: Balancednesses that differ by less are the same: the layers' order of summation.
_SAME = 5e-7
Floats = npt.NDArray[np.float64]


def measure(workspace: Workspace) -> list[Figure]:
    """CPU time and balance for five shapes and eight loads; nothing when no SGLang is installed to compare with.

    Raises:
        BenchError: the wheel has no such algorithm, or it does not run.
    """
    algorithm_source = _source(workspace)
    if algorithm_source is None:
        workspace.say(
            "placement: skipped, as there is no SGLang to compare with: give a wheel by --sglang-wheel, or make "
            f"{ENVIRONMENT} by operators/bootstrap.py --tests"
        )
        return []
    source, sglang = algorithm_source
    algorithm = _unpacked(source, workspace.folder)
    workspace.say(f"placing experts with {sglang} and with this project")
    command = [sys.executable, "-m", "tests.bench.placement", str(algorithm)]
    one_thread = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    done = subprocess.run(
        command, env=os.environ | one_thread, cwd=PROJECT, capture_output=True, text=True, check=False, timeout=LIMIT_S
    )
    if done.returncode:
        raise BenchError(f"placing experts failed:\n{(done.stdout + done.stderr)[-2000:]}")
    return figures(json.loads(done.stdout.splitlines()[-1]), sglang)


def figures(comparison: dict[str, list[dict[str, Any]]], sglang: str) -> list[Figure]:
    """A row per shape for time and for balance; ``comparison`` is the output of :func:`_compare`."""
    rows = []
    for shape, loads in comparison.items():
        theirs, quick = (float(np.median([one[key]["cpu_s"] for one in loads])) for key in ("theirs", "quick"))
        text = f"medians over {len(loads)} loads: {quick * 1e3:.2f} ms against {theirs * 1e3:.1f} ms of {sglang}"
        share = Figure(f"{shape}: CPU time, quick", 100 / TIMES_FASTER, 100 * quick / theirs, "% of deepseek's", text)
        rows.append(share)
        rows += [_balance(shape, effort, loads) for effort in ("quick", "thorough")]
    return rows


def _balance(shape: str, effort: str, loads: list[dict[str, Any]]) -> Figure:
    """Largest deficit of this project's balancedness, in points, over the means and worst layers of all loads."""
    behind = [one["theirs"][layer] - one[effort][layer] for one in loads for layer in ("mean", "worst")]
    ours, theirs = (
        "/".join(f"{np.mean([one[who][layer] for one in loads]):.4f}" for layer in ("mean", "worst"))
        for who in (effort, "theirs")
    )
    took = float(np.median([one[effort]["cpu_s"] for one in loads])) * 1e3
    text = (
        f"in {took:.1f} ms; on average over {len(loads)} loads mean/worst layer {ours} against {theirs}; "
        f"at least as good in {sum(b <= _SAME for b in behind)} of {len(behind)} comparisons"
    )
    most = round(100 * max(behind), 4) + 0.0
    return Figure(f"{shape}: balancedness behind deepseek's, {effort}, at most", 0.0, most, "points", text)


def loads() -> dict[str, Floats]:
    """Eight loads of 58 layers and 256 experts, tokens per expert."""
    rng = np.random.default_rng(0)
    by_name = {
        f"lognormal {sigma}": rng.lognormal(sigma=sigma, size=(LAYERS, EXPERTS)) for sigma in (0.3, 0.5, 0.8, 1.0)
    }
    for exponent in (0.5, 1.0):
        ranks = np.tile(np.arange(1, EXPERTS + 1.0), (LAYERS, 1))
        by_name[f"zipf {exponent}"] = rng.permuted(ranks, axis=1) ** -exponent
    with np.load(RECORDED) as sums:
        # Two recorded layers of 128 experts side by side make one of 256.
        for one, other in (("A", "B"), ("M", "A")):
            pair = np.concatenate([sums[f"q24_{one}"], np.roll(sums[f"q24_{other}"], 1, axis=0)], axis=1)
            by_name[f"recorded {one}+{other}"] = np.resize(pair, (LAYERS, EXPERTS)).astype(float)
    return {name: np.round(load / load.sum(axis=1, keepdims=True) * 1e6) for name, load in by_name.items()}


def _source(workspace: Workspace) -> tuple[Path, str] | None:
    """The wheel given, or the tests' SGLang, and what to call it; None without either."""
    wheel = workspace.sglang_wheel
    if wheel is not None:
        return wheel, wheel.name
    for packages in (workspace.built.environments / ENVIRONMENT).glob("lib/python*/site-packages"):
        if (packages / MEMBER).is_file():
            installed = importlib.metadata.distributions(name="sglang", path=[str(packages)])
            return packages, f"SGLang {next(iter(installed)).version}"
    return None


def _unpacked(wheel: Path, folder: Path) -> Path:
    """The algorithm's file, from a wheel or from a folder that one was unpacked to."""
    if (wheel / MEMBER).is_file():
        return wheel / MEMBER
    try:
        with zipfile.ZipFile(wheel) as archive:
            return Path(archive.extract(MEMBER, folder))
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise BenchError(f"{wheel} is no SGLang wheel with {MEMBER}") from error


def _compare(algorithm: Path) -> dict[str, list[dict[str, Any]]]:
    import torch

    torch.set_num_threads(1)
    spec = importlib.util.spec_from_file_location("sglang_deepseek", algorithm)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{algorithm} is no Python file")
    theirs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(theirs)
    by_shape: dict[str, list[dict[str, Any]]] = {}
    for slots, ep in SHAPES:
        rows = by_shape[f"{LAYERS} x {EXPERTS} to {slots} slots on {ep}"] = []
        for load in loads().values():
            tokens = torch.from_numpy(load)

            row = {"theirs": _timed(partial(_theirs, theirs.rebalance_experts, tokens, slots, ep), load)}
            for effort, repeats in (("quick", 4 * REPEATS), ("thorough", 1)):
                row[effort] = _timed(partial(_ours, load, slots, ep, effort), load, repeats)
            rows.append(row)
    return by_shape


def _theirs(rebalance: Callable[..., Any], tokens: Any, slots: int, ep: int) -> Placement:
    return Placement(rebalance(tokens, slots, 1, 1, ep, False)[0].numpy(), ep)


def _ours(load: Floats, slots: int, ep: int, effort: Any) -> Placement:
    return optimise(load, ep, slots - EXPERTS, effort=effort).placement


def _timed(make: Callable[[], Placement], load: Floats, repeats: int = REPEATS) -> dict[str, float]:
    """CPU seconds of the quickest call, and balancedness of what it returned."""
    quickest = np.inf
    for _ in range(repeats):
        began = time.process_time()
        placement = make()
        quickest = min(quickest, time.process_time() - began)
    balance = balancedness(load, placement)
    return {"cpu_s": quickest, "mean": float(balance.mean()), "worst": float(balance.min())}


if __name__ == "__main__":
    print(json.dumps(_compare(Path(sys.argv[1]))))
