"""Synthetic surfaces on which samplers are compared: invented serving systems with known optima.

Each one has a cliff of memory, objectives of latency and noise. Their shapes differ in what makes a search hard; none
of their numbers describes a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from wideloop.tuning.dimensions import DIMENSIONS, register
from wideloop.tuning.dimensions.base import Bounds, Choices, Range
from wideloop.tuning.sampler.cube import Cube
from wideloop.tuning.sampler.physics import Physics
from wideloop.tuning.space import Point, SearchSpace

Floats = npt.NDArray[np.floating[Any]]
Columns = Mapping[str, Floats]


@dataclass(frozen=True)
class Truth:
    """What a perfect benchmark would measure, one entry for each point.

    ``kv_gib`` and ``spare_gib``: memory left for the KV cache, and beside it; negative is out of memory.
    """

    tok_s: Floats
    ttft_ms: Floats
    tpot_ms: Floats
    kv_gib: Floats
    spare_gib: Floats
    reserve_gib: Floats

    @property
    def fits(self) -> npt.NDArray[np.bool_]:
        return (self.kv_gib > 0) & (self.spare_gib >= 0)


class _Number(Range):
    role = "decode"

    def __init__(self, name: str, *, log: bool = False, digits: int | None = None) -> None:
        self.name = self.knob = self.title = self.short = name
        self.log, self.digits, self.parameters = log, digits, ()
        self.value_type = int if digits is None else float


class _Choice(Choices):
    role = "decode"
    value_type = int
    parameters = ()

    def __init__(self, name: str) -> None:
        self.name = self.knob = self.title = self.short = name

    def asked_for(self, values: Mapping[str, Any]) -> bool:
        del values
        return False


_OWN = (
    _Number("bench_chunk", log=True), _Number("bench_running", log=True), _Number("bench_slots"),
    _Number("bench_mem", digits=3), _Number("bench_share", digits=2),
    _Choice("bench_overlap"), _Choice("bench_mode"), _Choice("bench_multiple"), _Number("bench_interval", log=True),
)  # fmt: skip


def _register() -> None:
    names = {d.name for d in DIMENSIONS}
    for dimension in _OWN:
        if dimension.name not in names:
            register(dimension)


@dataclass(frozen=True)
class Surface:
    """A system to tune.

    Attributes:
        bounds: of each knob. default: the configuration that a user has.
        truth: from the knobs as columns.
        ttft_ms, tpot_ms: limits.
        noise: relative scatter of throughput; TTFT's and TPOT's is twice that. tails: share of measurements with ten
            times the scatter.
    """

    name: str
    bounds: dict[str, Bounds]
    default: Point
    truth: Callable[[Columns], Truth]
    ttft_ms: float
    tpot_ms: float
    noise: float = 0.03
    tails: float = 0.0

    @cached_property
    def space(self) -> SearchSpace:
        _register()
        return SearchSpace(**self.bounds)

    def at(self, points: list[Point]) -> Truth:
        return self.truth({name: np.array([p[name] for p in points], dtype=float) for name in self.bounds})

    def feasible(self, truth: Truth) -> npt.NDArray[np.bool_]:
        return truth.fits & (truth.ttft_ms <= self.ttft_ms) & (truth.tpot_ms <= self.tpot_ms)

    @cached_property
    def everything(self) -> Truth:
        """Some hundred thousand points of the space, as good as all of them."""
        cube = Cube(self.space)
        rows = cube.sobol(2**16, 0)
        random = np.random.default_rng(0)
        for width in (0.1, 0.03, 0.01):
            truth = self.at(cube.points(rows))
            value = np.where(self.feasible(truth), truth.tok_s, 0)
            speed = np.where(
                truth.fits & (truth.ttft_ms <= self.ttft_ms), truth.tok_s * (2 - truth.tpot_ms / self.tpot_ms), 0
            )
            top = np.concatenate([np.argsort(-value)[:300], np.argsort(-speed)[:300]])
            near = np.repeat(rows[top], 30, axis=0)
            near = near + random.normal(scale=width, size=near.shape) * (random.random(near.shape) < 0.5)
            rows = np.vstack([rows, cube.snapped(near)])
        return self.at(cube.points(rows))

    @cached_property
    def optimum(self) -> float:
        return float(self.everything.tok_s[self.feasible(self.everything)].max())

    def share_feasible(self) -> float:
        rows = self.at(Cube(self.space).points(Cube(self.space).sobol(2**13, 1)))
        return float(self.feasible(rows).mean())

    def hypervolume(self, points: list[Point]) -> float:
        """Area of throughput and TPOT that ``points`` dominate, relative to that of all points.

        Only points that fit and meet the TTFT count; the corner is 0 tok/s and twice the limit of TPOT.
        """
        return self._area(self.at(points)) / self._whole if points else 0.0

    @cached_property
    def _whole(self) -> float:
        return self._area(self.everything)

    def _area(self, truth: Truth) -> float:
        usable = truth.fits & (truth.ttft_ms <= self.ttft_ms) & (truth.tpot_ms < 2 * self.tpot_ms)
        order = np.argsort(truth.tpot_ms[usable])
        tpot, tok_s = truth.tpot_ms[usable][order], truth.tok_s[usable][order]
        highest = np.maximum.accumulate(tok_s) if len(tok_s) else tok_s
        edges = np.append(tpot[1:], 2 * self.tpot_ms)
        return float(np.sum(highest * (edges - tpot)))

    def measured(self, truth: Truth, random: np.random.Generator) -> tuple[float, dict[str, float]]:
        """One noisy measurement: throughput and violations."""
        wide = 10.0 if random.random() < self.tails else 1.0
        scatter = np.exp(random.normal(size=3) * self.noise * np.array([1, 2, 2]) * wide)
        ttft, tpot = truth.ttft_ms[0] * scatter[1], truth.tpot_ms[0] * scatter[2]
        constraints = {"ttft_p99": ttft / self.ttft_ms - 1, "tpot_p99": tpot / self.tpot_ms - 1, "error_rate": -0.01}
        return float(truth.tok_s[0] * scatter[0]), constraints

    def physics(self, kind: str, seed: int) -> Physics:
        """A memory model: ``right`` within 3 %, ``careful`` by 15 to 30 %, ``optimistic`` by 8 GiB, or ``none``."""
        if kind == "none":
            return Physics()
        random = np.random.default_rng(seed)
        factor = {"right": 1 + random.uniform(-0.03, 0.03), "careful": random.uniform(1.15, 1.3), "optimistic": 1.0}[
            kind
        ]
        lacking = 8.0 if kind == "optimistic" else 0.0

        def headroom(point: Mapping[str, float]) -> float:
            truth = self.at([dict(point)])
            spare = truth.spare_gib[0] - (factor - 1) * truth.reserve_gib[0] + lacking
            return float(min(spare, truth.kv_gib[0])) if truth.kv_gib[0] < 0 else float(spare)

        return Physics(headroom_gib=headroom)


def _serving(
    k: Columns,
    *,
    gpu: float,
    weights: float,
    concurrency: float,
    length: float,
    kv_kib: float,
    layers: float,
    skew: float,
) -> Truth:
    """A worker of 8 ranks: weights, KV cache and graphs share a GPU; a batch beyond the graphs runs eagerly."""
    zero = np.zeros_like(next(iter(k.values())))
    slots = k.get("bench_slots", k.get("redundant_slots", zero))
    mem = k.get("bench_mem", k.get("mem_fraction_static", zero + 0.85))
    graphs = k.get("cuda_graph_max_bs", zero + 128)
    chunk = k.get("bench_chunk", zero + 8192)
    running = k.get("bench_running", zero + 1e9)
    overlap, mode = k.get("bench_overlap", zero), k.get("bench_mode", zero)
    kv = mem * gpu - weights * (1 + 0.022 * slots)
    reserve = 2.5 + 0.011 * graphs * (1 + 0.3 * overlap) + chunk * 2.2e-4 + 2.0 * (mode == 1) + 1.5 * overlap
    spare = gpu * (1 - mem) - reserve
    room = np.maximum(kv, 1e-3) * 2**20 / kv_kib / length
    batch = np.maximum(np.minimum(np.minimum(concurrency, room), running), 0.5)
    hot = 1 + skew * np.exp(-slots / 1.6) + 0.004 * slots**1.5
    moe = layers * (0.05 + 0.0011 * batch * hot)
    exchange = layers * np.where(
        mode == 1, 0.02 + 0.0016 * batch, np.where(mode == 2, 0.05 + 0.0010 * batch, 0.08 + 0.0009 * batch)
    )
    step = np.where(
        overlap == 1, np.maximum(moe, exchange) + 0.35 * np.minimum(moe, exchange) + layers * 0.03, moe + exchange
    )
    step = step + np.where(batch > graphs, layers * 0.4, 0.0) + 0.015 * graphs / 16
    stolen = 0.08 * (chunk / 8192) ** 0.5 + 0.05 * (8192 / chunk) ** 0.7
    tpot = step * (1 + stolen)
    wait = np.maximum(concurrency / np.maximum(batch, 0.5) - 1, 0)
    ttft = 120 + 900 * (4096 / chunk) ** 0.6 + 0.012 * chunk + 2500 * wait**1.5 + 40 * step / layers
    return Truth(1000 * batch / tpot, ttft, tpot, kv, spare, reserve)


def _interior(k: Columns) -> Truth:
    return _serving(k, gpu=139, weights=78, concurrency=220, length=3000, kv_kib=70, layers=60, skew=0.9)


def _sliver(k: Columns) -> Truth:
    return _serving(k, gpu=79, weights=50, concurrency=150, length=2200, kv_kib=70, layers=58, skew=1.4)


def _cliff(k: Columns) -> Truth:
    """Latency jumps fivefold where the cache no longer holds every request."""
    truth = _serving(k, gpu=79, weights=42, concurrency=96, length=4100, kv_kib=70, layers=60, skew=0.5)
    full = truth.kv_gib * 2**20 / 70 / 4100 < 88
    jump = np.where(full, 5.0, 1.0)
    return Truth(
        truth.tok_s * np.where(full, 0.8, 1),
        truth.ttft_ms * jump,
        truth.tpot_ms,
        truth.kv_gib,
        truth.spare_gib,
        truth.reserve_gib,
    )


def _heavy(k: Columns) -> Truth:
    return _serving(k, gpu=185, weights=96, concurrency=420, length=2600, kv_kib=70, layers=60, skew=0.7)


def _multiples(k: Columns) -> Truth:
    """Eight knobs; redundancy is a count that is valid at multiples only, so that each step is large."""
    own = dict(k)
    own["bench_slots"] = k["bench_multiple"] / 32
    truth = _serving(own, gpu=139, weights=88, concurrency=260, length=2500, kv_kib=70, layers=61, skew=1.1)
    interval = np.log2(k["bench_interval"] / 300)
    share = k["bench_share"]
    factor = np.exp(-0.03 * interval**2) * (1 - 1.2 * (share - 0.45 - 0.03 * interval) ** 2)
    slower = 1 + 0.5 * np.maximum(share - 0.6, 0)
    return Truth(
        truth.tok_s * factor,
        truth.ttft_ms / np.maximum(factor, 0.3),
        truth.tpot_ms / factor * slower,
        truth.kv_gib,
        truth.spare_gib,
        truth.reserve_gib,
    )


_MEM: Bounds = (0.6, 0.97)

SURFACES = (
    Surface(
        "interior",
        {
            "redundant_slots": (0, 8), "mem_fraction_static": _MEM, "cuda_graph_max_bs": (8, 512),
            "bench_chunk": (1024, 65536),
        },
        {"redundant_slots": 0, "mem_fraction_static": 0.8, "cuda_graph_max_bs": 64, "bench_chunk": 8192},
        _interior, 2000, 37,
    ),
    Surface(
        "sliver",
        {
            "redundant_slots": (0, 6), "mem_fraction_static": (0.68, 0.97), "cuda_graph_max_bs": (8, 512),
            "bench_chunk": (1024, 32768), "bench_running": (8, 512),
        },
        {
            "redundant_slots": 0, "mem_fraction_static": 0.75, "cuda_graph_max_bs": 32, "bench_chunk": 4096,
            "bench_running": 128,
        },
        _sliver, 2600, 26,
    ),
    Surface(
        "cliff",
        {"redundant_slots": (0, 5), "mem_fraction_static": _MEM, "cuda_graph_max_bs": (4, 256)},
        {"redundant_slots": 0, "mem_fraction_static": 0.72, "cuda_graph_max_bs": 32},
        _cliff, 1800, 24,
    ),
    Surface(
        "heavy tails",
        {
            "bench_slots": (0, 8), "mem_fraction_static": _MEM, "cuda_graph_max_bs": (8, 1024),
            "bench_chunk": (1024, 65536), "bench_overlap": (0, 1), "bench_mode": (0, 1, 2),
        },
        {
            "bench_slots": 0, "mem_fraction_static": 0.8, "cuda_graph_max_bs": 128, "bench_chunk": 8192,
            "bench_overlap": 0, "bench_mode": 0,
        },
        _heavy, 2500, 42, tails=0.05,
    ),
    Surface(
        "multiples",
        {
            "bench_multiple": (0, 32, 64, 96, 128), "mem_fraction_static": _MEM, "cuda_graph_max_bs": (8, 512),
            "bench_chunk": (1024, 65536), "bench_overlap": (0, 1), "bench_mode": (0, 1, 2),
            "bench_interval": (50, 2000), "bench_share": (0.0, 1.0),
        },
        {
            "bench_multiple": 0, "mem_fraction_static": 0.8, "cuda_graph_max_bs": 64, "bench_chunk": 8192,
            "bench_overlap": 0, "bench_mode": 0, "bench_interval": 1000, "bench_share": 0.2,
        },
        _multiples, 2600, 36,
    ),
)  # fmt: skip
