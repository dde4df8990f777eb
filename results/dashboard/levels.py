"""One row per level of concurrency, for runs that benchmark given configurations and try no others."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel
from wideloop.results.dashboard.trials import failed_gates
from wideloop.results.experts.sides import IN_ORDER, PLACED
from wideloop.results.records import Measurement


class LevelRow(BaseModel):
    """One level. Rates per second, latencies in milliseconds; the measurement is valid when ``gates_failed`` is empty.

    ``tok_s_se`` is the standard error of ``tok_s`` within the run, None where it was not estimated.
    ``pair`` numbers the deployments of an interleaved comparison. ``gain`` is the relative difference in tok/s to the
    same level and pair with the experts in order, where both are valid.
    """

    label: str
    pair: int = 0
    concurrency: int
    requests: int
    errors: int
    tok_s: float
    tok_s_se: float | None = None
    tok_s_per_gpu: float
    tok_s_per_user: float
    ttft_ms_p50: float
    ttft_ms_p99: float
    tpot_ms_p50: float
    tpot_ms_p99: float
    gates_failed: list[str]
    deployment: str = ""
    gain: float | None = None


def levels(measurements: Sequence[Measurement]) -> list[LevelRow]:
    """Rows of the measurements made for a benchmark or for comparing placements, by rising concurrency."""
    shown = [m for m in measurements if m.purpose in ("benchmark", "experts")]
    before = {(m.concurrency, m.repeat): m for m in shown if m.label == IN_ORDER}
    shown.sort(key=lambda m: (m.concurrency, m.repeat, m.label != IN_ORDER, m.label))
    return [_row(m, before.get((m.concurrency, m.repeat)) if m.label == PLACED else None) for m in shown]


def _row(measured: Measurement, before: Measurement | None) -> LevelRow:
    comparable = before is not None and before.valid and measured.valid and before.output_tok_s > 0
    return LevelRow(
        label=measured.label,
        pair=measured.repeat,
        concurrency=measured.concurrency,
        requests=measured.requests,
        errors=measured.errors,
        tok_s=measured.output_tok_s,
        tok_s_se=measured.output_tok_s_se,
        tok_s_per_gpu=measured.output_tok_s_per_gpu,
        tok_s_per_user=measured.tok_s_per_user,
        ttft_ms_p50=measured.ttft_ms_p50,
        ttft_ms_p99=measured.ttft_ms_p99,
        tpot_ms_p50=measured.tpot_ms_p50,
        tpot_ms_p99=measured.tpot_ms_p99,
        gates_failed=failed_gates(measured),
        deployment=measured.deployment,
        gain=measured.output_tok_s / before.output_tok_s - 1 if before and comparable else None,
    )
