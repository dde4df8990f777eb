"""One row per deployment of a cycle: its configuration, its outcome and its cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict
from wideloop.manifests.deployment import WorkerSpec
from wideloop.operators.standalone import deployment_log
from wideloop.operators.steps.run import Run, open_store
from wideloop.results.engine_metrics import EngineMetrics
from wideloop.results.records import Measurement, Trial


class Row(BaseModel):
    """A visit with its measurement at the highest concurrency, and its trial.

    Attributes:
        kind: which seed of the study its trial is, ``sampler`` for none. why: the same for people.
        worker: the one that decodes. workers: all.
        outcome: ``ready``, ``infeasible``, or ``failed``.
        start_s: from the order to the first answer. visit_s: all the time its GPUs were held.
        ours_s: of that, neither the engine's start nor the client's run.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    label: str
    kind: str
    why: str
    trial_number: int | None
    repeat: int
    purpose: str
    worker: WorkerSpec
    workers: tuple[WorkerSpec, ...]
    outcome: str
    reason: str
    start_s: float | None
    client_s: float
    ours_s: float
    visit_s: float
    gpus: int
    engine: EngineMetrics
    used_mib: tuple[int, ...]
    measurement: Measurement | None

    @property
    def gpu_minutes(self) -> float:
        return self.gpus * self.visit_s / 60


def rows(run: Run, reasons: Mapping[int, tuple[str, str]]) -> list[Row]:
    """All visits of the cycle, oldest first. ``reasons``: kind and sentence of each trial, by number."""
    with open_store() as store:
        measurements = store.measurements(cycle_id=run.cycle_id)
        trials = {t.number: t for t in store.trials(study=run.cycle_id)}
    return [_row(entry, measurements, trials, reasons) for entry in deployment_log.entries(run)]


def _row(
    entry: dict[str, Any],
    measurements: list[Measurement],
    trials: dict[int, Trial],
    reasons: Mapping[int, tuple[str, str]],
) -> Row:
    workers = [WorkerSpec.model_validate(w) for w in entry["workers"]]
    worker = next(w for w in workers if w.role != "prefill")
    number, repeat, purpose = entry["trial_number"], entry["repeat"], entry["purpose"]
    measured = [
        m
        for m in measurements
        if (m.purpose, m.label, m.trial_number, m.repeat) == (purpose, entry["label"], number, repeat)
    ]
    seconds = entry["seconds"]
    trial = trials.get(number) if number is not None and purpose == "trial" else None
    diagnosis = entry["diagnosis"] or {}
    engine = entry["engine"]
    figures: dict[str, Any] = next((v for k, v in engine.items() if k.startswith(worker.role)), {})
    kind, why = reasons.get(number, ("", "")) if number is not None else ("", "")
    return Row(
        name=entry["deployment"],
        label=entry["label"],
        kind=kind,
        why=why,
        trial_number=number,
        repeat=repeat,
        purpose=purpose,
        worker=worker,
        workers=tuple(workers),
        outcome=trial.state if trial is not None else entry["state"],
        reason=(trial.reason if trial is not None else "") or diagnosis.get("message", ""),
        start_s=entry["start_seconds"],
        client_s=seconds.get("client", 0.0),
        ours_s=entry["overhead_s"],
        visit_s=sum(seconds.values()),
        gpus=sum(w.layout.gpus * w.replicas for w in workers),
        engine=EngineMetrics.model_validate(figures),
        used_mib=tuple(engine.get("gpu_used_mib", ())),
        measurement=max(measured, key=lambda m: m.concurrency, default=None),
    )
