"""One row per trial: its configuration, its outcome, and the measurement of its value."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ValidationError
from wideloop.manifests.frozen import Frozen
from wideloop.manifests.workload import Slo
from wideloop.results.dashboard.knobs import described, label, of_a_trial, searched
from wideloop.results.records import Cycle, Gate, Measurement, Trial
from wideloop.tuning.dimensions import Dimension

Mark = Literal["ok", "slo", "gates", "infeasible", "failed", "running"]

_CONSTRAINTS = {"ttft_p99": "TTFT p99", "tpot_p99": "TPOT p99", "error_rate": "error rate"}


class Repeats(BaseModel):
    """Repeated measurements of one configuration at one level: mean and range of tok/s/GPU, worst latencies in ms."""

    values: list[float]
    mean: float
    low: float
    high: float
    ttft_ms_p99: float
    tpot_ms_p99: float


class TrialRow(Frozen):
    """A trial with its measurement at the level its objective was taken from.

    ``mark`` summarises the state: ``ok``; ``slo``: measured, but outside the SLO; ``gates``: measured, but invalid (a
    gate failed); otherwise the trial's own state. ``label`` and ``description`` name its knobs for the chart.
    """

    number: int
    mark: Mark
    why: str
    is_default: bool
    is_best: bool
    label: str
    description: str
    knobs: dict[str, Any]
    tok_s_per_gpu: float | None = None
    tok_s_per_decode_gpu: float | None = None
    tok_s_per_user: float | None = None
    ttft_ms_p99: float | None = None
    tpot_ms_p99: float | None = None
    concurrency: int | None = None
    ttft_ok: bool = True
    tpot_ok: bool = True
    gates_failed: list[str] = []
    repeats: Repeats | None = None
    gpu_minutes: float
    measured: bool = False
    deployment: str = ""


def slo_of(cycle: Cycle) -> Slo | None:
    """The SLO in the cycle's request, None without one."""
    try:
        return Slo.model_validate(cycle.request["slo"])
    except (KeyError, ValidationError):
        return None


def rows(
    trials: Sequence[Trial],
    measurements: Sequence[Measurement],
    slo: Slo | None,
    recommended: int | None,
    dimensions: Sequence[Dimension] | None = None,
) -> list[TrialRow]:
    """All trials by number. The best is the recommended one or, before there is one, the best so far.

    ``dimensions``: those that distinguish the trials; by default the result of :func:`searched_by`.
    """
    dimensions = searched_by(trials) if dimensions is None else dimensions
    rows = [_row(trial, measurements, slo, dimensions) for trial in trials]
    best = recommended if recommended is not None else _best_so_far(rows)
    return [row.changed(is_best=row.number == best) for row in rows]


def searched_by(trials: Sequence[Trial]) -> list[Dimension]:
    """The dimensions that distinguish ``trials``."""
    return searched([t.point for t in trials], [t.knobs for t in trials])


def _row(
    trial: Trial, measurements: Sequence[Measurement], slo: Slo | None, dimensions: Sequence[Dimension]
) -> TrialRow:
    levels = _of(trial, measurements, "trial")
    if not levels and trial.is_default:
        levels = [m for m in measurements if m.purpose == "baseline"]
    shown = _objective_level(trial, levels)
    gates = failed_gates(shown) if shown else []
    mark, why = _mark(trial, gates)
    row = TrialRow(
        number=trial.number,
        mark=mark,
        why=why,
        is_default=trial.is_default,
        is_best=False,
        label=label(trial.knobs, dimensions),
        description=described(trial.knobs, dimensions),
        knobs=of_a_trial(trial.knobs, dimensions),
        tok_s_per_gpu=trial.value if mark in ("ok", "slo") else None,
        gates_failed=gates,
        gpu_minutes=trial.gpu_seconds / 60,
        deployment=trial.deployment or (shown.deployment if shown else ""),
    )
    return row.changed(**_measured(shown, slo), repeats=_repeats(trial, measurements, shown))


def failed_gates(measured: Measurement) -> list[str]:
    """Why a measurement is invalid, one sentence per failed gate; empty when it is valid."""
    return [_gate(gate) for gate in measured.gates if not gate.ok]


def _gate(gate: Gate) -> str:
    value = "unknown" if gate.value is None else f"{gate.value:.3g}"
    return f"{gate.name} is {value}, limit {gate.limit:.3g} ({gate.meaning})"


def _measured(shown: Measurement | None, slo: Slo | None) -> dict[str, Any]:
    if shown is None:
        return {}
    return {
        "measured": True,
        "tok_s_per_gpu": shown.output_tok_s_per_gpu,
        "tok_s_per_decode_gpu": shown.output_tok_s / shown.decode_gpus,
        "tok_s_per_user": shown.tok_s_per_user,
        "ttft_ms_p99": shown.ttft_ms_p99,
        "tpot_ms_p99": shown.tpot_ms_p99,
        "concurrency": shown.concurrency,
        "ttft_ok": slo is None or shown.ttft_ms_p99 <= slo.ttft_p99_ms,
        "tpot_ok": slo is None or shown.tpot_ms_p99 <= slo.tpot_p99_ms,
    }


def _of(trial: Trial, measurements: Sequence[Measurement], purpose: str) -> list[Measurement]:
    return [m for m in measurements if m.purpose == purpose and m.trial_number == trial.number]


def _objective_level(trial: Trial, levels: Sequence[Measurement]) -> Measurement | None:
    """The measurement at the level of the trial's value; without a value, at the highest level.

    Trials that were stored without their level are matched by the nearest throughput.
    """
    if not levels or trial.state != "complete":
        return None
    if trial.concurrency is not None:
        return next((m for m in levels if m.concurrency == trial.concurrency), None)
    value = trial.value
    if value is None:
        return max(levels, key=lambda m: m.concurrency)
    return min(levels, key=lambda m: (abs(m.output_tok_s_per_gpu - value), -m.concurrency))


def _mark(trial: Trial, gates: Sequence[str]) -> tuple[Mark, str]:
    if trial.state != "complete":
        return trial.state, trial.reason
    missed = [_CONSTRAINTS.get(name, name) for name, value in trial.constraints.items() if value > 0]
    if missed:
        return "slo", f"{' and '.join(missed)} over the limit"
    if gates:
        return "gates", f"invalid (gate failed): {'; '.join(gates)}"
    return "ok", trial.reason


def _repeats(trial: Trial, measurements: Sequence[Measurement], shown: Measurement | None) -> Repeats | None:
    again = _of(trial, measurements, "repeat")
    if not again:
        return None
    level = shown.concurrency if shown else max(m.concurrency for m in again)
    again = [m for m in again if m.concurrency == level]
    if not again:
        return None
    values = [m.output_tok_s_per_gpu for m in again]
    return Repeats(
        values=values,
        mean=statistics.fmean(values),
        low=min(values),
        high=max(values),
        ttft_ms_p99=max(m.ttft_ms_p99 for m in again),
        tpot_ms_p99=max(m.tpot_ms_p99 for m in again),
    )


def _best_so_far(rows: Sequence[TrialRow]) -> int | None:
    candidates = [row for row in rows if row.mark == "ok" and row.tok_s_per_gpu is not None]
    best = max(candidates, key=lambda row: row.tok_s_per_gpu or 0.0, default=None)
    return best.number if best else None
