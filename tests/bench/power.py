"""How often repeats lead to a wrong or to no conclusion, simulated with the product's own rule at every look."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
from wideloop.results.statistics import LEAST_PAIRS, MOST_PAIRS, is_decided, paired_gain

from tests.bench.figure import Figure
from tests.bench.workspace import Workspace

Floats = npt.NDArray[np.float64]
#: Relative results of single runs, for any shape; of a distribution with mean about 1.
Runs = Callable[[np.random.Generator, tuple[int, ...]], Floats]

SEEDS = 20_000
FALSE_ADOPTION, MISSED_AT_EIGHT, MISSED_AT_FOUR = 2.5, 20.0, 10.0


def _normal(scatter: float) -> Runs:
    return lambda random, shape: 1 + scatter * random.standard_normal(shape)


def _lognormal(scatter: float) -> Runs:
    return lambda random, shape: np.exp(scatter * random.standard_normal(shape))


def _student(scatter: float) -> Runs:
    return lambda random, shape: np.exp(scatter / np.sqrt(3) * random.standard_t(3, shape))


def _bimodal(gap: float, slow: float, within: float = 0.005) -> Runs:
    """A share ``slow`` of the runs is slower by ``gap``."""
    return lambda random, shape: 1 - gap * (random.random(shape) < slow) + within * random.standard_normal(shape)


def _quantised(scatter: float, unit: float) -> Runs:
    return lambda random, shape: np.round((1 + scatter * random.standard_normal(shape)) / unit) * unit


def _drifting(course: Callable[[np.random.Generator, tuple[int, ...]], Floats], scatter: float = 0.01) -> Runs:
    """Runs in the order of time; ``course`` multiplies them."""
    return lambda random, shape: (1 + scatter * random.standard_normal(shape)) * course(random, shape)


def _time(shape: tuple[int, ...]) -> Floats:
    return np.broadcast_to(np.arange(shape[-1], dtype=np.float64), shape)


NULLS: Mapping[str, Runs] = {
    **{f"normal, scatter {s:.0%}": _normal(s) for s in (0.01, 0.03, 0.05, 0.20)},
    **{f"lognormal, scatter {s:.0%}": _lognormal(s) for s in (0.05, 0.20)},
    **{f"Student t with 3 degrees of freedom, scatter {s:.0%}": _student(s) for s in (0.03, 0.10)},
    "bimodal, a fifth of the runs slower by 10 %": _bimodal(0.10, 0.2),
    "bimodal, half of the runs slower by 4 %": _bimodal(0.04, 0.5),
    "bimodal, half of the runs slower by 10 %": _bimodal(0.10, 0.5),
    "bimodal, half of the runs slower by 10 %, scatter 1.5 % besides": _bimodal(0.10, 0.5, 0.015),
    "quantised to 1 %, scatter 0.5 %": _quantised(0.005, 0.01),
    "quantised to 5 %, scatter 3 %": _quantised(0.03, 0.05),
    "drift, linear, 1 % per run": _drifting(lambda _random, shape: 1 + 0.01 * _time(shape)),
    "drift, warm-up from 90 %": _drifting(lambda _random, shape: 1 - 0.1 * np.exp(-_time(shape) / 2)),
    "drift, thermal, 5 % up and down": _drifting(
        lambda random, shape: 1 + 0.05 * np.sin(_time(shape) / 3 + 6.28 * random.random((shape[0], 1)))
    ),
    "drift, random walk of 2 % per run": _drifting(
        lambda random, shape: np.exp(0.02 * random.standard_normal(shape).cumsum(axis=-1))
    ),
}


def measure(workspace: Workspace) -> list[Figure]:
    """Per cent of simulated cycles that adopt where nothing is gained, or do not where something is."""
    workspace.say(f"repeats of {SEEDS} simulated cycles per row")
    began = time.process_time()
    figures = [
        _row(f"adopted without a gain: {name}", FALSE_ADOPTION, runs, 1.0, MOST_PAIRS) for name, runs in NULLS.items()
    ]
    figures += [
        _row(f"not adopted: gain {gain - 1:.0%}, scatter 3 %, within {most} pairs", limit, _normal(0.03), gain, most)
        for gain, most, limit in ((1.05, MOST_PAIRS, MISSED_AT_EIGHT), (1.10, 4, MISSED_AT_FOUR))
    ]
    return [*figures, Figure("CPU", None, time.process_time() - began, "s", "all rows")]


def _row(name: str, limit: float, runs: Runs, ratio: float, most: int) -> Figure:
    random = np.random.default_rng(5)
    in_time = runs(random, (SEEDS, 2 * most)).reshape(SEEDS, most, 2)
    # a b, b a, a b: the default comes first in every other pair.
    swapped = np.where(np.arange(most)[:, None] % 2 == 0, in_time, in_time[:, :, ::-1])
    adopted, pairs = 0, 0
    for default, best in zip(swapped[:, :, 0].tolist(), (ratio * swapped[:, :, 1]).tolist(), strict=True):
        is_adopted, count = _cycle(best, default)
        adopted, pairs = adopted + is_adopted, pairs + count
    share = 100 * adopted / SEEDS
    value = share if ratio == 1 else 100 - share
    error = 100 * np.sqrt(share * (100 - share) / 1e4 / SEEDS)
    return Figure(name, limit, value, "%", f"± {error:.2f}; {pairs / SEEDS:.1f} pairs on average")


def _cycle(best: list[float], default: list[float]) -> tuple[bool, int]:
    """Whether it is adopted, and after how many pairs the cycle ends."""
    for pairs in range(LEAST_PAIRS, len(best) + 1):
        gain = paired_gain(best[:pairs], default[:pairs])
        if is_decided(gain):
            break
    return gain.low > 0, pairs
