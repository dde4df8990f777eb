"""Collect a report from the stores and write it; of an interrupted cycle it has what was measured so far."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wideloop.operators.request import Request
from wideloop.operators.standalone.report.balancedness import balancedness
from wideloop.operators.standalone.report.configurations import configurations
from wideloop.operators.standalone.report.markdown import markdown
from wideloop.operators.standalone.report.measured import write_measured
from wideloop.operators.standalone.report.models import memory_errors, performance_errors
from wideloop.operators.standalone.report.rows import Row, rows
from wideloop.operators.steps.experts.place import recorded
from wideloop.operators.steps.plan import open_study
from wideloop.operators.steps.run import Run, artefacts, open_store
from wideloop.results.experts.proofs import kept_proofs
from wideloop.results.records import Measurement
from wideloop.tuning.space import values_shown
from wideloop.tuning.study import TuningStudy


def write_report(params: Mapping[str, Any], run: Run, folder: Path) -> dict[str, Any]:
    """Write report.md, report.json and the measured rows into ``folder``; returns the report."""
    folder.mkdir(parents=True, exist_ok=True)
    request = Request.from_params(params)
    study = open_study(request, run)
    visits = rows(run, {r.number: (study.kind(r.number), study.why(r.number)) for r in study.results()})
    write_measured(folder, run.run_id, request.model, visits, _popularity(run))
    best, searched = study.best(), [d.name for d, _ in study.space.dimensions]
    with open_store() as store:
        cycle = store.cycle(run.cycle_id)
        recommendation = store.recommendation(run.cycle_id)
        measurements = store.measurements(cycle_id=run.cycle_id)
    hardware = request.hardware_profile
    report = {
        "cycle_id": run.cycle_id,
        "title": request.title,
        "engine": f"{request.engine} {request.engine_version or ''}".strip(),
        "simulated": request.simulated,
        "state": cycle.state if cycle else "absent",
        "request": request.model_dump(mode="json"),
        "recommendation": recommendation.model_dump(mode="json") if recommendation else None,
        "proof": {
            role: proof.model_dump(mode="json") for role, proof in kept_proofs(artefacts(), run.cycle_id).items()
        },
        "dimensions": searched,
        "configurations": configurations(visits, best.number if best else None, balancedness(run, visits), searched),
        "trials": [_trial(row, searched) for row in visits if row.purpose in ("baseline", "trial")],
        "levels": [_level(m) for m in measurements],
        "memory_model": memory_errors(folder, hardware),
        "performance_model": performance_errors(folder, hardware),
        "cost": _cost(visits, study),
    }
    (folder / "report.json").write_text(json.dumps(_finite(report), indent=1, default=str) + "\n")
    (folder / "report.md").write_text(markdown(report))
    return report


def _trial(row: Row, searched: Sequence[str]) -> dict[str, Any]:
    measurement = row.measurement
    telemetry = measurement.telemetry if measurement else None
    return {
        "number": row.trial_number if row.trial_number is not None else row.label,
        "why": row.why or row.purpose,
        **values_shown(row.workers, searched),
        "outcome": row.outcome,
        "reason": row.reason,
        "output_tok_s": measurement.output_tok_s if measurement else None,
        "output_tok_s_se": measurement.output_tok_s_se if measurement else None,
        "tpot_ms_p50": measurement.tpot_ms_p50 if measurement else None,
        "gpu_power_w": measurement.gpu_power_w if measurement else None,
        "output_tok_per_joule": measurement.output_tok_per_joule if measurement else None,
        "utilisation": telemetry.utilisation if telemetry else None,
        "utilisation_sd": telemetry.utilisation_sd if telemetry else None,
        "kv_tokens": row.engine.kv_tokens,
        "eager_decode_passes": row.engine.eager_decode_passes,
        "start_s": row.start_s,
        "ours_s": row.ours_s,
    }


def _level(measured: Measurement) -> dict[str, Any]:
    """What GPUs and network did at one level, with what it was measured for."""
    fields = {"purpose", "label", "trial_number", "repeat", "concurrency", "output_tok_s", "gpu_power_w"}
    return measured.model_dump(mode="json", include=fields | {"output_tok_per_joule", "telemetry"})


def _cost(visits: Sequence[Row], study: TuningStudy) -> dict[str, Any]:
    results = sorted(study.results(), key=lambda r: r.number)
    feasible = [r for r in results if r.feasible]
    best = max(feasible, key=lambda r: r.value, default=None)
    near = next((i + 1 for i, r in enumerate(results) if best and r.feasible and r.value >= 0.98 * best.value), None)
    ours = [r.ours_s for r in visits if r.start_s is not None]
    delays = [g.value for r in visits if r.measurement for g in r.measurement.gates if g.name == "client_delay"]
    return {
        "GPU_minutes_in_all": round(sum(r.gpu_minutes for r in visits), 1),
        "deployments": len(visits),
        "trials_told": len(results),
        "trials_until_within_2_%_of_the_best": near,
        "trials_of_a_grid_of_the_same_resolution": math.prod(d.levels(b) for d, b in study.space.dimensions),
        "ours_per_deployment_s_median": round(statistics.median(ours), 2) if ours else None,
        "ours_per_deployment_s_most": round(max(ours), 2) if ours else None,
        "client_delay_most": max((d for d in delays if d is not None), default=None),
    }


def _popularity(run: Run) -> Any:
    """Recorded tokens of the baseline's decoding worker, [moe_layers, experts]."""
    uris = [
        u
        for u in artefacts().list("cycles", run.cycle_id, "recordings")
        if u.endswith(".npz") and "/baseline-" in u and "prefill" not in u.rsplit("/", 1)[1]
    ]
    return recorded(uris, run).total if uris else None


def _finite(value: Any) -> Any:
    """JSON has no infinities: None instead."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, (list, tuple)) else value
