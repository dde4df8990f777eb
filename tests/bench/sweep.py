"""How good a sweep of 20 trials is: the product's own study beside stock samplers, on surfaces with a known optimum.

The product's study is driven as a sweep drives it: measured default, seeds, asks and tells, in a SQLite file.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from wideloop.tuning.seeds import seed_points
from wideloop.tuning.space import Point
from wideloop.tuning.study import TuningStudy

from tests.bench.figure import Figure
from tests.bench.surfaces import SURFACES, Surface
from tests.bench.workspace import Workspace

TRIALS, SEEDS = 20, 20
MODELS = ("right", "careful", "optimistic", "none")
STOCK = ("random", "TPE", "GPSampler")
#: (least hypervolume, most out of memory, least share of picks that are truly feasible, least pick / optimum)
TARGETS = {"right": (0.93, 1.0, 0.95, 0.97), "careful": (0.93, 1.0, 0.95, 0.97), "optimistic": (0.85, 2.0, None, None)}


@dataclass(frozen=True)
class Sweep:
    """The outcome of one sweep. ``pick``: relative to the optimum, 0 when it truly misses a limit; None: no pick."""

    hypervolume: float
    out_of_memory: int
    pick: float | None
    best: float
    ask_s: float


def measure(workspace: Workspace, seeds: int = SEEDS) -> list[Figure]:
    """Means over seeds for each surface and sampler."""
    workspace.say(f"{seeds} sweeps of {TRIALS} trials for each surface and sampler")
    figures = []
    for surface in SURFACES:
        for sampler in (*MODELS, *STOCK):
            sweeps = run_all(surface.name, sampler, range(seeds))
            figures += _figures(surface, sampler, sweeps)
    return figures


def run_all(surface: str, sampler: str, seeds: Iterable[int], workers: int = 2) -> list[Sweep]:
    """The sweeps of those seeds, in two processes."""
    with ProcessPoolExecutor(workers) as pool:
        return list(pool.map(_run, *zip(*((surface, sampler, seed) for seed in seeds), strict=True)))


def _run(name: str, sampler: str, seed: int) -> Sweep:
    surface = next(s for s in SURFACES if s.name == name)
    return run_stock(surface, sampler, seed) if sampler in STOCK else run_product(surface, sampler, seed)


def run_product(surface: Surface, model: str, seed: int, trace: Callable[[str], None] = lambda _: None) -> Sweep:
    """One sweep of the product with a memory model of that kind."""
    random = np.random.default_rng(10_000 + seed)
    physics = surface.physics(model, seed)
    points: list[Point] = []
    failures, took = 0, 0.0
    with TemporaryDirectory() as folder:
        study = TuningStudy.open(f"sqlite:///{Path(folder) / 'study.db'}", "bench", surface.space, seed, physics)
        value, constraints = surface.measured(surface.at([surface.default]), random)
        study.add_measured(surface.default, value, constraints, "default")
        points.append(surface.default)
        for seed_point in seed_points(surface.space, surface.default, physics, recorded=False):
            study.enqueue(*seed_point)
        for k in range(TRIALS - 1):
            began = time.process_time()
            asked = study.ask(f"run {k}")
            took = max(took, time.process_time() - began)
            points.append(asked.point)
            truth = surface.at([asked.point])
            trace(f"{k} {asked.kind} {asked.point} {truth} {surface.feasible(truth)}")
            if truth.fits[0]:
                study.tell_measured(asked.number, *surface.measured(truth, random))
            else:
                failures += 1
                study.tell_infeasible(asked.number, None)
        best = study.best()
    return _sweep(surface, points, failures, best.point if best else None, took)


def run_stock(surface: Surface, sampler: str, seed: int) -> Sweep:
    """One sweep of a stock sampler, told the same constraints; out of memory is one of them."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    samplers: dict[str, Any] = {
        "random": optuna.samplers.RandomSampler,
        "TPE": optuna.samplers.TPESampler,
        "GPSampler": optuna.samplers.GPSampler,
    }
    random = np.random.default_rng(10_000 + seed)
    study = optuna.create_study(direction="maximize", sampler=samplers[sampler](seed=seed))
    points: list[Point] = []
    failures, took = 0, 0.0
    worst = 0.0
    study.enqueue_trial(dict(surface.default))
    for _ in range(TRIALS):
        began = time.process_time()
        trial = study.ask()
        point = surface.space.suggest(trial)
        took = max(took, time.process_time() - began)
        points.append(point)
        truth = surface.at([point])
        if truth.fits[0]:
            value, constraints = surface.measured(truth, random)
            constraints["oom"] = -1.0
            worst = min(worst, value) if worst else value
        else:
            failures += 1
            value, constraints = worst, {"ttft_p99": 0.0, "tpot_p99": 0.0, "error_rate": 0.0, "oom": 1.0}
        for name, violation in constraints.items():
            trial.set_constraint(name, violation)
        study.tell(trial, value)
    feasible = [t for t in study.trials if all(v <= 0 for v in t.constraints.values())]
    best = max(feasible, key=lambda t: t.value or 0.0, default=None)
    return _sweep(surface, points, failures, points[best.number] if best else None, took)


def _sweep(surface: Surface, points: list[Point], failures: int, pick: Point | None, took: float) -> Sweep:
    truth = surface.at(points)
    best = float(np.where(surface.feasible(truth), truth.tok_s, 0).max() / surface.optimum)
    relative = None
    if pick is not None:
        of_pick = surface.at([pick])
        relative = float(of_pick.tok_s[0] / surface.optimum) if surface.feasible(of_pick)[0] else 0.0
    return Sweep(surface.hypervolume(points), failures, relative, best, took)


def summary(sweeps: Sequence[Sweep]) -> dict[str, float]:
    """Means: hypervolume, out of memory, shares of sweeps with a pick and with a truly feasible one, and the pick."""
    picks = [s.pick for s in sweeps if s.pick is not None]
    right = [p for p in picks if p > 0]
    return {
        "hypervolume": statistics.fmean(s.hypervolume for s in sweeps),
        "out_of_memory": statistics.fmean(s.out_of_memory for s in sweeps),
        "found": len(picks) / len(sweeps),
        "truly_feasible": len(right) / len(sweeps),
        "pick": statistics.fmean(right) if right else 0.0,
        "best": statistics.fmean(s.best for s in sweeps),
        "ask_s": max(s.ask_s for s in sweeps),
    }


def _figures(surface: Surface, sampler: str, sweeps: Sequence[Sweep]) -> list[Figure]:
    mean = summary(sweeps)
    hypervolume, failures, _, _ = TARGETS.get(sampler, (None, None, None, None))
    made_of = (
        f"pick {mean['pick']:.3f} of the optimum where it is truly feasible, which it is in "
        f"{mean['truly_feasible']:.0%}; {mean['found']:.0%} of sweeps have a pick; best point tried "
        f"{mean['best']:.3f}; longest ask {mean['ask_s']:.2f} CPU s"
    )
    name = f"{surface.name}, {sampler if sampler in STOCK else f'wideloop, memory model: {sampler}'}"
    return [
        Figure(
            f"{name}: 1 - hypervolume",
            None if hypervolume is None else 1 - hypervolume,
            1 - mean["hypervolume"],
            "",
            made_of,
        ),
        Figure(
            f"{name}: out of memory",
            failures,
            mean["out_of_memory"],
            "trials",
            f"of {TRIALS} in each of {len(sweeps)} sweeps",
        ),
    ]
