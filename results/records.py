"""The records of the results store. Times are UTC; every record of a simulated engine has ``simulated`` set.

Numbers are finite. A NaN or an infinity would mean that something was not measured, and databases, JSON
readers and charts treat them differently, so a record with one cannot be made. A missing number is None.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from wideloop.results.telemetry.figures import LevelTelemetry

#: Why something was measured.
Purpose = Literal["baseline", "trial", "repeat", "benchmark", "experts"]
CycleState = Literal["running", "success", "failed"]
StageState = Literal["running", "success", "failed", "skipped"]
TrialState = Literal["running", "complete", "infeasible", "failed"]


class Gate(BaseModel):
    """One condition that a measurement must meet to be valid, e.g. that the load generator kept up."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    name: str
    value: float | None
    limit: float
    ok: bool
    meaning: str


class LevelFigures(BaseModel):
    """What a load generator measured at one level of concurrency.

    Rates are per second over the plateau, latencies in milliseconds. ``tpot`` is time per output
    token after the first.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    concurrency: int
    requests: int
    errors: int
    output_tok_s: float
    output_tok_s_se: float | None = Field(
        None,
        description="standard error of output_tok_s within the run; None: no plateau, or an old record",
    )
    input_tok_s: float
    request_s: float
    ttft_ms_mean: float
    ttft_ms_p50: float
    ttft_ms_p99: float
    tpot_ms_mean: float
    tpot_ms_p50: float
    tpot_ms_p99: float
    request_ms_mean: float
    request_ms_p99: float
    osl_mean: float
    duration_s: float
    started_at: datetime
    ended_at: datetime


class Measurement(LevelFigures):
    """One level of concurrency of one benchmark of one deployment.

    Per-GPU figures state their denominator: ``gpus`` counts all GPUs of the deployment, ``decode_gpus`` those of its
    decode (or aggregated) workers.
    """

    cycle_id: str
    purpose: Purpose
    label: str = Field(description="which configuration: 'default', 'trial 4', ...")
    trial_number: int | None = None
    repeat: int = 0
    spec_fingerprint: str
    image: str
    engine: str
    simulated: bool
    workload_fingerprint: str
    isl: int
    osl: int
    gpus: int
    decode_gpus: int
    gates: tuple[Gate, ...] = ()
    artefact: str = Field("", description="URI of the folder with the load generator's files")
    gpu_power_w: float | None = Field(
        None, description="of all GPUs of the deployment; None: not known of each of them"
    )
    output_tok_per_joule: float | None = Field(None, description="output_tok_s / gpu_power_w, over the same stretch")
    telemetry: LevelTelemetry | None = Field(None, description="what GPUs and ports did meanwhile; None: not sampled")

    @property
    def valid(self) -> bool:
        """Every gate passed."""
        return all(g.ok for g in self.gates)

    @property
    def deployment(self) -> str:
        """The name of the deployment that was measured; empty where its files were not kept."""
        return self.artefact.rstrip("/").rpartition("/")[2]

    @property
    def output_tok_s_per_gpu(self) -> float:
        """Output tokens per second and GPU of the whole deployment."""
        return self.output_tok_s / self.gpus

    @property
    def tok_s_per_user(self) -> float:
        """Interactivity: tokens per second one user sees, 1000 / TPOT."""
        return 1000 / self.tpot_ms_mean if self.tpot_ms_mean else 0.0

    @property
    def error_rate(self) -> float:
        return self.errors / self.requests if self.requests else 1.0


class Trial(BaseModel):
    """One configuration that the study asked for: its result as Optuna's storage has it, and what it cost.

    ``value`` is the objective (output tok/s per GPU); ``constraints`` are <= 0 when met.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    study: str
    number: int
    cycle_id: str
    dag_run_id: str
    point: dict[str, float]
    knobs: dict[str, Any]
    state: TrialState
    reason: str = ""
    value: float | None = None
    concurrency: int | None = Field(None, description="level at which value was measured; None in old records")
    constraints: dict[str, float] = {}
    is_default: bool = False
    deployment: str = Field("", description="name of its deployment, below which its files are; empty in old records")
    gpu_seconds: float = 0.0
    phases: dict[str, float] = Field({}, description="seconds per phase: apply, start, benchmark, teardown, ...")
    started_at: datetime
    ended_at: datetime | None = None


class Stage(BaseModel):
    """One stage of a cycle on its timeline.

    ``gpu_seconds`` is GPUs held times seconds held. It is None where it was not counted; for the stage ``tune``
    the page then shows the sum of its trials.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    cycle_id: str
    name: str
    state: StageState
    detail: str = ""
    gpu_seconds: float | None = None
    started_at: datetime
    ended_at: datetime | None = None


class Recommendation(BaseModel):
    """The conclusion of a cycle. ``gain`` is the mean relative difference of best and default over pairs of repeats.

    ``gain_low`` and ``gain_high`` bound it at ``confidence`` (Student's t over the pairs).
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    cycle_id: str
    study: str
    trial_number: int
    verdict: Literal["adopt", "keep default", "inconclusive"]
    reason: str
    knobs: dict[str, Any]
    default_knobs: dict[str, Any]
    gain: float
    gain_low: float
    gain_high: float
    confidence: float = 0.95
    pairs: int
    slo_met: bool
    simulated: bool
    created_at: datetime


class PlanWarning(BaseModel):
    """Advice that the first task of a cycle gave. ``accepted``: whoever started it knew of it, by its ``id``."""

    model_config = ConfigDict(frozen=True)

    id: str
    text: str
    accepted: bool = False


class Cycle(BaseModel):
    """One run of the whole cycle (or of a part of it started by hand)."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    cycle_id: str
    dag_id: str
    dag_run_id: str
    title: str
    state: CycleState
    engine: str
    target: str
    simulated: bool
    model: str
    hardware: str
    request: dict[str, Any]
    study: str = ""
    planned_trials: int = 0
    started_at: datetime
    ended_at: datetime | None = None
    warnings: tuple[PlanWarning, ...] = ()


class Recording(BaseModel):
    """A recorded expert distribution: where its file is, and its size and balance in a few numbers."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    cycle_id: str
    role: str
    simulated: bool
    artefact: str
    layers: int
    experts: int
    tokens: int
    ep: int
    balancedness: float = Field(description="mean over MoE layers of mean/max rank load, experts placed in order")
    balancedness_placed: float | None = Field(None, description="the same under the placement made from it")
    created_at: datetime


class Asset(BaseModel):
    """A verified image (``value`` is its digest) or model cache (its path); ``detail`` is what the check reported."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    kind: Literal["image", "weights"]
    key: str
    value: str
    detail: dict[str, Any] = {}
    verified_at: datetime
