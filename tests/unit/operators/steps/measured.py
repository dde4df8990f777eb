"""A cycle and what a benchmark of it would have found, made by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from wideloop.manifests.diagnosis import Diagnosis
from wideloop.operators.request import Request
from wideloop.operators.steps import trial
from wideloop.operators.steps.benchmark import Measured
from wideloop.operators.steps.deployment import Outcome
from wideloop.operators.steps.plan import open_study
from wideloop.operators.steps.run import Run, open_store
from wideloop.results.records import Gate, Measurement
from wideloop.tuning.study import TuningStudy

CYCLE = Run(dag_id="wideep_cycle", run_id="manual__1")
PARAMS: dict[str, Any] = {"trials": 4, "repeats": 2, "concurrency": [8, 32]}
READY = Outcome(state="ready")
T0 = datetime(2026, 1, 1, tzinfo=UTC)


def trial_run(name: str) -> Run:
    """A run of wideep_trial that works for the cycle."""
    return Run(dag_id="wideep_trial", run_id=name, for_cycle=CYCLE.cycle_id)


def study() -> TuningStudy:
    return open_study(Request.from_params(PARAMS), CYCLE)


def gate(ok: bool) -> Gate:
    return Gate(name="client kept up", value=0.5, limit=0.1, ok=ok, meaning="the client was not the bottleneck")


def measurement(tok_s: float = 800.0, **changes: Any) -> Measurement:
    """One level; 8 GPUs, so ``tok_s`` of 800 are 100 per GPU. Meets the SLO."""
    values: dict[str, Any] = {
        "cycle_id": CYCLE.cycle_id, "purpose": "trial", "label": "trial", "spec_fingerprint": "f", "image": "i",
        "engine": "simulated", "simulated": True, "workload_fingerprint": "w", "isl": 2048, "osl": 64,
        "concurrency": 32, "gpus": 8, "decode_gpus": 4, "requests": 96, "errors": 0, "output_tok_s": tok_s,
        "input_tok_s": 1.0, "request_s": 1.0, "ttft_ms_mean": 100, "ttft_ms_p50": 100, "ttft_ms_p99": 200,
        "tpot_ms_mean": 10, "tpot_ms_p50": 10, "tpot_ms_p99": 20, "request_ms_mean": 1000, "request_ms_p99": 2000,
        "osl_mean": 64, "duration_s": 10, "gates": (gate(True),), "started_at": T0,
        "ended_at": T0 + timedelta(seconds=10),
    }  # fmt: skip
    return Measurement(**{**values, **changes})


def measured(tok_s: float = 800.0, **changes: Any) -> Measured:
    return Measured(outcome="measured", measurements=(measurement(tok_s, **changes),), client_seconds=12.0)


def out_of_memory(deficit_gib: float | None = 2.5) -> Diagnosis:
    return Diagnosis(
        kind="out_of_memory", component="decode-0", message="no room", action="less", deficit_gib=deficit_gib
    )


def baseline(tok_s: float = 800.0, **changes: Any) -> None:
    """The default was measured, at both levels."""
    kept = {"purpose": "baseline", "label": "default", **changes}
    with open_store() as store:
        store.put(measurement(tok_s / 2, concurrency=8, **kept), measurement(tok_s, **kept))


def tried(name: str, tok_s: float, **changes: Any) -> trial.AskedTrial:
    """A whole trial run that ended well."""
    asked = trial.ask(PARAMS, trial_run(name))
    trial.tell(PARAMS, asked, trial_run(name), READY, measured(tok_s, **changes))
    return asked


def repeated(number: int, repeat: int, tok_s: float, **changes: Any) -> None:
    """A repeat of a finished trial, as its benchmark files it."""
    kept = {"purpose": "repeat", "label": f"trial {number}", "trial_number": number, "repeat": repeat, **changes}
    with open_store() as store:
        store.put(measurement(tok_s, **kept))
