"""Analyse one role's recording: every figure that the page shows of it, and the advice."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from wideloop.manifests.deployment import DeploymentSpec, WorkerSpec
from wideloop.manifests.engines import get_engine
from wideloop.manifests.hardware import Role
from wideloop.manifests.workload import Workload
from wideloop.results.experts.role_report import Advice, GroupSizes, Replicated, RoleReport, Row
from wideloop.results.recordings import ExpertRecording
from wideloop.tuning import balance
from wideloop.tuning.advice import Phase, Traffic, chunk_remark, dispatch_nodes, halves, layouts, options, verdict
from wideloop.tuning.placement import Placement, lower_bound, optimise, trivial
from wideloop.tuning.placement.placement import balancedness, rank_load
from wideloop.tuning.popularity import sequence_variation

Floats = npt.NDArray[np.floating[Any]]

#: Sizes that the advice is given for beside the one recorded.
SIZES = (8, 16, 32, 64)
#: Experts of a layer that are called hot.
_HOT = 16
_LAYERS_OVER_TIME = 3
_REPLICATED = 60
_PHASES: tuple[Role, ...] = ("prefill", "decode")


def role_report(spec: DeploymentSpec, worker: WorkerSpec, recording: ExpertRecording, workload: Workload) -> RoleReport:
    """Analyse the recording of one role of ``spec``, whose knobs are resolved; an aggregated worker's also by phase."""
    load = recording.total.astype(float)
    advised, note = _advice(spec, worker, recording, workload)
    own = next((a for a in advised if a.ep == worker.layout.ep), None)
    redundant = own.redundant if own is not None else worker.knobs.redundant_experts
    placement = optimise(load, worker.layout.ep, redundant, dispatch_nodes=dispatch_nodes(worker)).placement
    idle = spec.model.num_moe_layers - int(load.any(axis=1).sum())
    notes = [note, f"{idle} layers with experts had no traffic and keep the engine's order" if idle > 0 else ""]
    whole = _analysed(spec, worker, recording, placement, redundant)
    phases = []
    if worker.role == "aggregated" and len(recording.windows) > 1:
        for phase in (role for role in _PHASES if role in recording.windows):
            part = replace(
                recording, windows={phase: recording.windows[phase]}, passes={phase: recording.passes[phase]}
            )
            of_phase = _analysed(spec, worker.model_copy(update={"role": phase}), part, placement, redundant)
            table, why = _advice(spec, worker, recording, workload, phase)
            changed = {"advice": table, "note": why, "phase_of": worker.role}
            phases.append(of_phase.model_copy(update=changed))
    elif worker.role == "aggregated":
        (only,) = recording.windows
        notes.append(
            "its prefill and decode passes were not recorded apart"
            if only == worker.role
            else f"it has {only} passes only"
        )
    update = {"advice": advised, "note": "; ".join(filter(None, notes)), "phases": tuple(phases)}
    return whole.model_copy(update=update)


def _analysed(
    spec: DeploymentSpec, worker: WorkerSpec, recording: ExpertRecording, placement: Placement, redundant: int
) -> RoleReport:
    """The report without advice. The placement may have been made from a longer recording than ``recording``."""
    windows = sum_of_roles(recording)
    load = recording.total.astype(float)
    layers = np.flatnonzero(load.any(axis=1))
    order = trivial(len(load), recording.experts, worker.knobs.redundant_experts, worker.layout.ep)
    in_order = replace(order, nodes=dispatch_nodes(worker))
    before, after = balancedness(load, in_order)[layers], balancedness(load, placement)[layers]
    coolest = lower_bound(load[layers], worker.layout.ep, placement.slots // worker.layout.ep)
    worst = int(layers[before.argmin()])
    sides = [rank_load(load, one)[worst] for one in (in_order, placement)]
    return RoleReport(
        role=worker.role,
        simulated=bool(recording.provenance.get("simulated", get_engine(spec.engine).simulated)),
        provenance=dict(recording.provenance),
        tokens=recording.tokens(spec.model.top_k),
        passes=sum(recording.passes.values()),
        ep=worker.layout.ep,
        redundant=redundant,
        layers=tuple(map(int, layers)),
        experts=recording.experts,
        heat=_table(_over_mean(load[layers])),
        over_time={
            int(layer): _table(_over_mean(windows[:, layer])) for layer in layers[before.argsort()[:_LAYERS_OVER_TIME]]
        },
        balance_by_window=tuple(
            _row([balance.balance(window, one) for window in windows]) for one in (in_order, placement)
        ),
        before=_row(before),
        after=_row(after),
        best=_row(load[layers].sum(axis=1) / worker.layout.ep / coolest),
        worst_layer=worst,
        ranks_before=_row(sides[0] / sides[0].mean()),
        ranks_after=_row(sides[1] / sides[1].mean()),
        gini=round(float(balance.gini(load).mean()), 4),
        persistence=_persistence(windows),
        ordered=recording.ordered,
        sglang_balancedness=round(balance.sglang_balancedness(load, in_order), 4),
        replicated=_replicated(placement, load),
        group_sizes=_group_sizes(spec, worker, load),
        advice=(),
    )


def sum_of_roles(recording: ExpertRecording) -> Floats:
    """[windows, layers, experts]: prefill and decode counts of the same window of time are added up."""
    total: Floats = np.sum(list(_side_by_side(recording).values()), axis=0)
    return total


def _side_by_side(recording: ExpertRecording) -> dict[Role, Floats]:
    """Each role's counts in the same number of windows, that of the role with the fewest."""
    fewest = min(len(w) for w in recording.windows.values())
    return {
        role: np.stack([part.sum(axis=0) for part in np.array_split(counts, fewest)]).astype(float)
        for role, counts in recording.windows.items()
    }


def _advice(
    spec: DeploymentSpec,
    worker: WorkerSpec,
    recording: ExpertRecording,
    workload: Workload,
    role: Role | None = None,
) -> tuple[tuple[Advice, ...], str]:
    """Advice by EP size, from all passes or those of ``role``; without enough passes none, and the reason."""
    engine = get_engine(spec.engine)
    version = spec.engine_version or engine.default_version
    side_by_side = _side_by_side(recording)
    parts = {of: halves(counts) for of, counts in side_by_side.items()}
    first_half, second_half = (np.sum([part[i] for part in parts.values()], axis=0) for i in (0, 1))
    phase = Phase(role, *parts[role]) if role is not None else None
    lengths = {"prefill": workload.isl, "decode": workload.osl, "aggregated": workload.isl + workload.osl}
    variation = max(
        sequence_variation(counts, spec.model.top_k * recording.copies, lengths[of])
        for of, counts in side_by_side.items()
    )
    windows = len(next(iter(side_by_side.values())))
    busiest = max(workload.concurrency)
    sizes = sorted({worker.layout.ep, *(s for s in SIZES if s <= spec.model.num_experts)})
    advice = []
    try:
        for other in [worker if ep == worker.layout.ep else next(layouts(worker, [ep])) for ep in sizes]:
            per_rank = busiest / worker.layout.dp
            traffic = Traffic(workload.isl, workload.osl, round(per_rank * other.layout.dp))
            if (spec.model.num_experts + other.knobs.redundant_experts) % other.layout.ep:
                continue
            table = options(
                spec.model, spec.hardware, other, first_half, second_half, traffic, engine, version,
                phase=phase, variation=variation,
            )  # fmt: skip
            chosen = verdict(table, is_later=windows > 1)
            remark = chunk_remark(table[0])
            rows = tuple(_advice_row(o) for o in table)
            advice.append(
                Advice(
                    ep=other.layout.ep,
                    kind=chosen.kind,
                    text=chosen.text,
                    redundant=chosen.option.redundant,
                    reasons=(*chosen.reasons, *([remark] if remark else [])),
                    rows=rows,
                )
            )
    except ValueError as problem:
        return (), f"no advice: {problem}"
    return tuple(advice), ""


def _advice_row(option: Any) -> Row:
    values = {**asdict(option), **asdict(option.cost)}
    rounded = {k: round(v, 4) if isinstance(v, float) else v for k, v in values.items()}
    return Row(**{name: rounded[name] for name in Row.model_fields} | {"experts_gib": round(option.experts_gib, 3)})


def _persistence(windows: Floats) -> float | None:
    if len(windows) < 2:
        return None
    shared = balance.persistence(windows, min(_HOT, windows.shape[2] // 2))
    return round(float(np.diagonal(shared, 1).mean()), 4)


def _replicated(placement: Placement, load: Floats) -> tuple[Replicated, ...]:
    """The experts with the most replicas, of those the most loaded."""
    counts = placement.replicas(load.shape[1])
    counts[~load.any(axis=1)] = 1
    share = _over_mean(load)
    layers, experts = np.nonzero(counts > 1)
    order = np.lexsort((-share[layers, experts], -counts[layers, experts]))[:_REPLICATED]
    return tuple(
        Replicated(layer=int(a), expert=int(e), replicas=int(counts[a, e]), load=round(float(share[a, e]), 2))
        for a, e in zip(layers[order], experts[order], strict=True)
    )


def _group_sizes(spec: DeploymentSpec, worker: WorkerSpec, load: Floats) -> tuple[GroupSizes, ...]:
    """For the tokens of a full prefill chunk, or of the largest captured batch, on every GPU."""
    knobs = worker.knobs
    per_worker = (knobs.cuda_graph_max_bs or 1) * worker.layout.dp if worker.role == "decode" else None
    per_gpu = (per_worker or knobs.chunked_prefill_size or 1) / worker.layout.gpus
    groups = []
    for ep in sorted({worker.layout.ep, *SIZES}):
        if load.shape[1] % ep:
            continue
        own = trivial(len(load), load.shape[1], 0, ep)
        sizes = balance.group_sizes(load, own, per_gpu * ep, spec.model.top_k)
        low, middle, high = (round(float(q), 2) for q in np.quantile(sizes, (0.05, 0.5, 0.95)))
        groups.append(
            GroupSizes(
                ep=ep,
                experts_per_gpu=balance.experts_per_gpu(load.shape[1], 0, ep),
                p5=low,
                median=middle,
                p95=high,
                empty=round(float((sizes < 1).mean()), 4),
            )
        )
    return tuple(groups)


def _over_mean(load: Floats) -> Floats:
    mean = load.mean(axis=-1, keepdims=True)
    result: Floats = np.divide(load, mean, out=np.zeros_like(load), where=mean > 0)
    return result


def _row(values: Any) -> tuple[float, ...]:
    return tuple(round(float(v), 4) for v in values)


def _table(values: Floats) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(round(float(v), 2) for v in row) for row in values)
