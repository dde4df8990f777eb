"""The headline of a successful run without a recommendation, by kind of run."""

from __future__ import annotations

import math
from collections.abc import Sequence

from wideloop.results.airflow_names import DEPLOY, IMAGE, WEIGHTS
from wideloop.results.dashboard.formats import number, percent
from wideloop.results.dashboard.kinds import Kind
from wideloop.results.dashboard.levels import LevelRow
from wideloop.results.dashboard.trials import TrialRow
from wideloop.results.records import Cycle, Recording, Stage
from wideloop.results.statistics import mean_and_interval

_DONE = {
    IMAGE: "The image is ready",
    WEIGHTS: "The model cache is ready",
    DEPLOY: "The deployment came up",
}
_ONCE = "Each was measured once, so the difference may be chance"


def finished(
    cycle: Cycle,
    kind: Kind,
    stages: Sequence[Stage],
    shown: Sequence[TrialRow],
    measured: Sequence[LevelRow],
    recordings: Sequence[Recording],
) -> tuple[str, str]:
    """A sentence and the reason or reservation below it, possibly empty."""
    if kind in ("sweep", "trial"):
        return _sweep(shown)
    if kind == "benchmark":
        return _benchmark(measured)
    if kind == "experts":
        return _experts(measured, recordings)
    if kind == "cycle":
        return "This cycle recommends nothing", "It finished without comparing configurations."
    details = [s.detail.splitlines()[0] for s in stages if s.detail]
    return _DONE.get(cycle.dag_id, "The run succeeded"), details[-1] if details else ""


def _sweep(shown: Sequence[TrialRow]) -> tuple[str, str]:
    best = next((row for row in shown if row.is_best), None)
    default = next((row for row in shown if row.is_default and row.tok_s_per_gpu), None)
    if best is None:
        return "No trial met the objectives", f"{len(shown)} were tried; the table shows the result of each."
    result = f"Trial {best.number} gave {number(best.tok_s_per_gpu)} output tok/s per GPU"
    if default is None or not default.tok_s_per_gpu or not best.tok_s_per_gpu:
        return result, "There is no default to compare it with. Only wideep_cycle compares and recommends."
    if best.is_default:
        return "No trial beat the default configuration", f"{len(shown)} tried."
    gain = percent(best.tok_s_per_gpu / default.tok_s_per_gpu - 1)
    return f"{result}, {gain} over the default", f"{_ONCE}: only wideep_cycle repeats both and recommends."


def _benchmark(measured: Sequence[LevelRow]) -> tuple[str, str]:
    if not measured:
        return "Nothing was measured", ""
    valid = [row for row in measured if not row.gates_failed]
    invalid = [row for row in measured if row.gates_failed]
    reservation = ""
    if invalid:
        levels = ", ".join(str(row.concurrency) for row in invalid)
        reservation = f"Invalid at concurrency {levels}: {invalid[0].gates_failed[0]}"
    if not valid:
        return "No level of this benchmark is valid", reservation
    top = max(valid, key=lambda row: row.tok_s_per_gpu)
    return f"{number(top.tok_s_per_gpu)} output tok/s per GPU at concurrency {top.concurrency}", reservation


def _experts(measured: Sequence[LevelRow], recordings: Sequence[Recording]) -> tuple[str, str]:
    gains = [row for row in measured if row.gain is not None]
    balance = "; ".join(
        f"{r.role} balancedness {number(r.balancedness, 2)} in order, {number(r.balancedness_placed, 2)} placed"
        for r in recordings
    )
    if not gains:
        return "The placements could not be compared", balance
    level = gains[-1].concurrency
    pairs = [row.gain for row in gains if row.concurrency == level and row.gain is not None]
    gain, half = mean_and_interval(pairs) or (0.0, math.inf)
    certainty = _ONCE
    if len(pairs) > 1:
        chance = "" if abs(gain) > half else ", so the difference may be chance"
        certainty = f"95 % interval {percent(gain - half)} to {percent(gain + half)}, {len(pairs)} pairs{chance}"
    sentence = f"Experts placed: {percent(gain)} output tok/s at concurrency {level}"
    return sentence, ". ".join(part for part in (balance, certainty) if part)
