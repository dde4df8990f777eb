"""Every valid number of redundant experts of a worker: balance on seen and unseen traffic, gain and cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from wideloop.manifests.deployment import WorkerSpec
from wideloop.manifests.engines.base import Engine
from wideloop.manifests.hardware import HardwareProfile, Role
from wideloop.manifests.model import ModelSpec
from wideloop.tuning.advice.cost import UNTUNED_DECODE, UNTUNED_PREFILL, Cost, cost
from wideloop.tuning.performance import WorkerModel
from wideloop.tuning.placement import Placement, balancedness, optimise, trivial
from wideloop.tuning.placement.solve import Plan

Floats = npt.NDArray[np.floating[Any]]

#: Largest number of redundant experts that is tried.
MOST = 128
#: Share of the GPU's time that the host may take of a chunk that placements are judged at.
_HOST_SHARE = 0.5


@dataclass(frozen=True)
class Traffic:
    """The load that throughput is predicted for: tokens in and out of a request, requests of the whole worker."""

    isl: int
    osl: int
    concurrency: int


@dataclass(frozen=True)
class Phase:
    """The prefill or the decode passes of an aggregated worker, by which options are judged instead of by all passes.

    Attributes:
        role: prefill or decode.
        seen, unseen: the phase's share of the same two parts of the recording, [layers, experts].
    """

    role: Role
    seen: Floats
    unseen: Floats


@dataclass(frozen=True)
class Option:
    """One number of redundant experts, or none and the engine's own order (``placed`` False).

    Attributes:
        balance, worst: mean over hottest rank load, averaged over layers and of the worst layer; 1 is perfect.
        gap: largest possible further reduction of the hottest rank's load, as a share, averaged over layers (0: the
            placement is proven best), on the traffic that the placement was made from.
        unseen: balance of a placement made from half of the recording, on the other half.
        gain: predicted change of the worker's throughput against no balancing, 0.1 for 10 %.
        gain_unseen: the same with the placement made from one half, on the other half's traffic.
        chunk: tokens per attention-DP rank that a prefill chunk is judged at; ``own_chunk`` is what the worker's knobs
            give it, where that is fewer because the host limits such small chunks, not the GPU.
        experts_gib: GiB per GPU more than without redundancy.
        kv_displaced: tokens of KV cache per rank that those replace.
        cost: all other costs.
    """

    role: Role
    ep: int
    redundant: int
    placed: bool
    slots_per_gpu: int
    balance: float
    worst: float
    gap: float
    unseen: float
    gain: float
    gain_unseen: float
    experts_gib: float
    kv_displaced: int
    cost: Cost
    chunk: int = 0
    own_chunk: int = 0

    @property
    def possible(self) -> bool:
        return self.cost.fits and self.cost.dispatch_ok


def options(
    model: ModelSpec,
    hardware: HardwareProfile,
    worker: WorkerSpec,
    seen: Floats,
    unseen: Floats,
    traffic: Traffic,
    engine: Engine,
    version: str,
    *,
    most: int = MOST,
    phase: Phase | None = None,
    variation: float | None = None,
) -> list[Option]:
    """The engine's own order, and a placement for each valid redundancy up to ``most``, by redundancy.

    Args:
        worker: the worker, its knobs resolved; the engine's own order has its redundancy.
        seen, unseen: two parts of a recording, or two recordings, [layers, experts]; placements are made from both
            together, and from the first alone to be judged on the second.
        engine: the engine of ``version``, for its memory, CUDA graphs and tuned kernels.
        phase: judge by these passes only. Placements are still made for all passes, since an engine loads only one.
        variation: how much sequences differ, as :func:`wideloop.tuning.popularity.sequence_variation` measures it;
            None: as much as is assumed where nothing was recorded.

    Raises:
        ValueError: the two are not of one shape, or a layer with load in one has none in the other or in ``phase``.
    """
    judged = (seen, unseen) if phase is None else _of_phase(phase, seen)
    role = worker.role if phase is None else phase.role
    seen, unseen = _shares(seen, unseen)
    both = (seen + unseen) / 2
    first, second = _shares(*judged)
    traffics = ((first + second) / 2, second)
    base = worker.knobs.redundant_experts
    nodes = dispatch_nodes(worker)
    own = replace(trivial(len(both), both.shape[1], base, worker.layout.ep), nodes=nodes)
    off = _Judge(model, hardware, worker, traffic, engine, version, role, variation)
    off.judge_chunk(traffics[0], own)
    before = off.throughput(traffics[0], own), off.throughput(traffics[1], own)
    candidates = [_option(off, off, own, None, seen, traffics, before)]
    for redundant in valid(both.shape[1], worker.layout.ep, most):
        changed = worker.changed(knobs=worker.knobs.changed(redundant_experts=redundant))
        judge = _Judge(model, hardware, changed, traffic, engine, version, role, variation)
        judge.chunk = off.chunk
        plan = optimise(both, worker.layout.ep, redundant, effort="quick", dispatch_nodes=nodes)
        candidates.append(_option(judge, off, plan.placement, plan, seen, traffics, before))
    return candidates


def dispatch_nodes(worker: WorkerSpec) -> int:
    """Nodes between which the worker's senders prefer their own replicas; 1 where replicas share evenly.

    SGLang sends by ``static`` dispatch with an all-to-all back end; without one all ranks agree on a slot by slot draw.
    """
    return worker.layout.nodes if worker.knobs.deepep_mode is not None else 1


def valid(experts: int, ep: int, most: int) -> range:
    """The numbers of redundant experts that engines accept: all slots divide by ``ep``."""
    return range(-experts % ep, most + 1, ep)


def halves(windows: Floats) -> tuple[Floats, Floats]:
    """``windows`` [windows, layers, experts] as two loads: the first half of time and the second.

    A single window has no second time. Its counts are divided at random, so that a placement is at least not judged by
    the tokens that it was made from; that shows what is chance, not whether traffic changes.
    """
    if len(windows) < 2:
        counts = np.rint(np.asarray(windows[0], dtype=np.float64)).astype(np.int64)
        first = np.random.default_rng(0).binomial(counts, 0.5)
        return first.astype(float), (counts - first).astype(float)
    middle = len(windows) // 2
    return windows[:middle].sum(axis=0), windows[middle:].sum(axis=0)


def layouts(worker: WorkerSpec, eps: Sequence[int]) -> Iterator[WorkerSpec]:
    """``worker`` on other numbers of GPUs, each an expert-parallel rank, with the same batch per rank."""
    old = worker.layout
    for ep in eps:
        nodes = -(-ep // old.gpus_per_node)
        shape = {"nodes": nodes, "gpus_per_node": ep // nodes, "tp": ep, "ep": ep, "dp": ep if old.dp > 1 else 1}
        yield worker.changed(layout=old.changed(**shape))


class _Judge:
    """Cost of one worker, and its throughput in the work of ``role``."""

    def __init__(
        self,
        model: ModelSpec,
        hardware: HardwareProfile,
        worker: WorkerSpec,
        traffic: Traffic,
        engine: Engine,
        version: str,
        role: Role,
        variation: float | None,
    ) -> None:
        self.model, self.hardware, self.worker, self.traffic, self.role = model, hardware, worker, traffic, role
        self.engine, self.variation = engine, variation
        self.own_chunk = self.chunk = max((worker.knobs.chunked_prefill_size or 0) // worker.layout.dp, 1)
        self.cost = cost(model, hardware, worker, engine, version)

    def _timing(self, share: Floats, placement: Placement) -> WorkerModel:
        return WorkerModel(
            self.model,
            self.hardware,
            self.worker,
            share,
            placement,
            engine=self.engine,
            variation=self.variation,
        )

    def judge_chunk(self, share: Floats, placement: Placement) -> None:
        """Judge at a larger chunk where the host limits the worker's own, as it does with attention DP over many ranks.

        The engine divides the chunk by the ranks, so its default leaves each so few tokens that starting kernels takes
        longer than running them: no placement could show then, and nobody should run such a worker.
        """
        if self.role != "prefill" or self.worker.layout.dp == 1:
            return
        timing = self._timing(share, placement)
        if timing.host_share(self.chunk) <= 1:
            return
        while timing.host_share(self.chunk) > _HOST_SHARE and 2 * self.chunk <= self.engine.max_prefill_tokens:
            self.chunk *= 2

    def throughput(self, share: Floats, placement: Placement, untuned: bool = False) -> float:
        """Requests per millisecond and attention-DP rank, prefill and decode one after the other."""
        timing = self._timing(share, placement)
        layout, traffic = self.worker.layout, self.traffic
        ms = 0.0
        if self.role != "decode":
            ms += traffic.isl * float(timing.prefill_ms(self.chunk)) / self.chunk / (UNTUNED_PREFILL if untuned else 1)
        if self.role != "prefill":
            context = traffic.isl + traffic.osl / 2
            batch = max(min(traffic.concurrency / layout.dp, self.cost.kv_tokens // (traffic.isl + traffic.osl)), 1)
            ms += traffic.osl * float(timing.decode_ms(batch, context)) / batch / (UNTUNED_DECODE if untuned else 1)
        return 1 / ms


def _option(
    judge: _Judge,
    off: _Judge,
    placement: Placement,
    plan: Plan | None,
    seen: Floats,
    traffics: tuple[Floats, Floats],
    before: tuple[float, float],
) -> Option:
    """``traffics``: the two loads to judge by, the whole and the part that is not in ``seen``."""
    whole, unseen = traffics
    ep, redundant = placement.ep, judge.worker.knobs.redundant_experts
    by_half = placement
    if plan is not None:
        by_half = optimise(seen, ep, redundant, effort="quick", dispatch_nodes=placement.nodes).placement
    by_layer = balancedness(whole, placement)
    # The loss is relative to the current kernel: without a tuned kernel before, nothing is lost.
    untuned = judge.cost.kernel == "default" and off.cost.kernel == "tuned"
    now = judge.throughput(whole, placement, untuned), judge.throughput(unseen, by_half, untuned)
    return Option(
        role=judge.role,
        ep=ep,
        redundant=redundant,
        placed=plan is not None,
        slots_per_gpu=placement.slots // ep,
        balance=float(by_layer.mean()),
        worst=float(by_layer.min()),
        gap=float(plan.gap.mean()) if plan else float("nan"),
        unseen=float(balancedness(unseen, by_half).mean()),
        gain=now[0] / before[0] - 1,
        gain_unseen=now[1] / before[1] - 1,
        experts_gib=judge.cost.experts_gib - off.cost.experts_gib,
        kv_displaced=off.cost.kv_tokens - judge.cost.kv_tokens,
        cost=judge.cost,
        chunk=judge.chunk,
        own_chunk=judge.own_chunk,
    )


def _of_phase(phase: Phase, seen: Floats) -> tuple[Floats, Floats]:
    missing = np.flatnonzero(np.asarray(seen).any(axis=1) & ~np.asarray(phase.seen).any(axis=1)).tolist()
    if missing:
        raise ValueError(f"layers {missing} have no {phase.role} traffic in one part: record for longer")
    return phase.seen, phase.unseen


def _shares(seen: Floats, unseen: Floats) -> tuple[Floats, Floats]:
    """Both as shares of each layer's tokens, layers without any (dense ones) left out."""
    seen, unseen = np.asarray(seen, dtype=np.float64), np.asarray(unseen, dtype=np.float64)
    if seen.shape != unseen.shape or seen.ndim != 2:
        raise ValueError(f"loads of {seen.shape} and {unseen.shape} are not of the same model")
    busy, also = seen.any(axis=1), unseen.any(axis=1)
    if (busy != also).any() or not busy.any():
        layers = np.flatnonzero(busy != also).tolist()
        raise ValueError(f"layers {layers} have traffic in one part only: record for longer" if layers else "no load")
    first, second = (load[busy] / load[busy].sum(axis=1, keepdims=True) for load in (seen, unseen))
    return first, second
