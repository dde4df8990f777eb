"""What to say first about a run that ended well without recommending: each DAG's own answer."""

from __future__ import annotations

from collections.abc import Sequence

from wideloop.results.airflow_names import DEPLOY, IMAGE, WEIGHTS
from wideloop.results.dashboard.formats import number, percent
from wideloop.results.dashboard.kinds import Kind
from wideloop.results.dashboard.levels import LevelRow
from wideloop.results.dashboard.trials import TrialRow
from wideloop.results.records import Cycle, Recording, Stage
from wideloop.results.statistics import paired_gain

_DONE = {
    IMAGE: "The image is ready",
    WEIGHTS: "The model cache is ready",
    DEPLOY: "The deployment came up",
}
_ONCE = "Measured once each, so chance is not excluded"


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
    said = [s.detail.splitlines()[0] for s in stages if s.detail]
    return _DONE.get(cycle.dag_id, "The run succeeded"), said[-1] if said else ""


def _sweep(shown: Sequence[TrialRow]) -> tuple[str, str]:
    best = next((row for row in shown if row.is_best), None)
    default = next((row for row in shown if row.is_default and row.tok_s_per_gpu), None)
    if best is None:
        return "No trial met the objectives", f"{len(shown)} tried; the table says what came of each."
    what = f"Trial {best.number} gave {number(best.tok_s_per_gpu)} output tok/s per GPU"
    if default is None or not default.tok_s_per_gpu or not best.tok_s_per_gpu:
        return what, "There is no default to compare it with. Only wideep_cycle compares and recommends."
    if best.is_default:
        return "No trial beat the default configuration", f"{len(shown)} tried."
    gain = percent(best.tok_s_per_gpu / default.tok_s_per_gpu - 1)
    return f"{what}, {gain} over the default", f"{_ONCE}: only wideep_cycle repeats both and recommends."


def _benchmark(measured: Sequence[LevelRow]) -> tuple[str, str]:
    if not measured:
        return "Nothing was measured", ""
    believed = [row for row in measured if not row.gates_failed]
    doubtful = [row for row in measured if row.gates_failed]
    doubt = ""
    if doubtful:
        which = ", ".join(str(row.concurrency) for row in doubtful)
        doubt = f"Not to be believed: level {which}, where {doubtful[0].gates_failed[0]}"
    if not believed:
        return "No level of this benchmark can be believed", doubt
    top = max(believed, key=lambda row: row.tok_s_per_gpu)
    return f"{number(top.tok_s_per_gpu)} output tok/s per GPU at concurrency {top.concurrency}", doubt


def _experts(measured: Sequence[LevelRow], recordings: Sequence[Recording]) -> tuple[str, str]:
    gains = [row for row in measured if row.gain is not None]
    balance = "; ".join(
        f"{r.role} balancedness {number(r.balancedness, 2)} in order, {number(r.balancedness_placed, 2)} placed"
        for r in recordings
    )
    if not gains:
        return "The placements could not be compared", balance
    level = gains[-1].concurrency
    pairs = [1 + row.gain for row in gains if row.concurrency == level and row.gain is not None]
    doubt, gain = _ONCE, pairs[0] - 1
    if len(pairs) > 1:
        found = paired_gain(pairs, [1.0] * len(pairs))
        gain = found.gain
        certain = "" if found.low > 0 or found.high < 0 else ", so chance is not excluded"
        doubt = f"{found.pairs} pairs in turns: {percent(found.low)} to {percent(found.high)}{certain}"
    worth = f"Experts placed: {percent(gain)} output tok/s at concurrency {level}"
    return worth, ". ".join(part for part in (balance, doubt) if part)
