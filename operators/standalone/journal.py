"""What is kept of each visited deployment besides its measurements: the engine's own figures, timings, its log."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime
from typing import Any

from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.diagnosis import Diagnosis
from wideloop.manifests.engines import get_engine
from wideloop.manifests.errors import TargetError
from wideloop.operators.settings import settings
from wideloop.operators.standalone.visit import Visit
from wideloop.operators.steps.benchmark import Subject
from wideloop.operators.steps.run import Run, artefacts
from wideloop.operators.targets import open_target
from wideloop.operators.targets.local import gpus
from wideloop.results import engine_metrics

#: Lines of a log that are kept.
_LOG_LINES = 4000


def engine_figures(target_name: str, name: str) -> dict[str, Any]:
    """By worker: what its metrics page says, and the memory in use on all GPUs, MiB. Empty for simulated engines."""
    target = open_target(target_name)
    engine = get_engine(target.spec(name).engine)
    if engine.simulated:
        return {}
    figures: dict[str, Any] = {}
    for component in target.endpoints(name).control:
        try:
            page = "\n".join(target.call_all(name, component, engine.metrics_path, method="GET"))
        except TargetError as error:
            print(f"the metrics of {name} cannot be read: {error}")
            continue
        read = engine_metrics.read(page)
        if read.without_graphs:
            print(f"{name}: {read.eager_decode_passes:.0f} decode steps ran without a CUDA graph")
        figures[component] = read.model_dump(exclude_none=True)
    figures["gpu_used_mib"] = [g.used_mib for g in gpus.read()]
    return figures


def keep_log(target_name: str, name: str, run: Run) -> None:
    """Keep the end of each component's log, compressed."""
    target = open_target(target_name)
    scratch = settings().home / "scratch" / run.cycle_id
    scratch.mkdir(parents=True, exist_ok=True)
    for component in get_engine(target.spec(name).engine).components(target.spec(name)):
        lines = target.logs(name, component.name, _LOG_LINES)
        local = scratch / f"{name}-{component.name}.log.gz"
        local.write_bytes(gzip.compress("\n".join(lines).encode(), mtime=0))
        artefacts().put_file(local, "cycles", run.cycle_id, "logs", local.name)


def write(run: Run, seen: Visit, subject: Subject, spec: DeploymentSpec, figures: dict[str, Any]) -> None:
    """Keep the entry of a visit; ``subject`` is what was measured last."""
    diagnosis = _diagnosis(seen)
    entry = {
        "deployment": seen.name,
        "purpose": subject.purpose,
        "label": subject.label,
        "trial_number": subject.trial_number,
        "repeat": subject.repeat,
        "workers": [w.model_dump(mode="json") for w in spec.workers],
        "state": seen.outcome.state if seen.outcome else "failed",
        "diagnosis": diagnosis.model_dump(mode="json") if diagnosis else None,
        "start_seconds": seen.outcome.start_seconds if seen.outcome else None,
        "seconds": {part: round(s, 3) for part, s in seen.seconds.items()},
        "overhead_s": round(seen.overhead_s, 3),
        "engine": figures,
        "written_at": datetime.now(UTC).isoformat(),
    }
    artefacts().put_json(entry, "cycles", run.cycle_id, "visits", f"{seen.name}.json")


def entries(run: Run) -> list[dict[str, Any]]:
    """All entries of the cycle, oldest first."""
    keep = artefacts()
    found = [keep.read_json(uri) for uri in keep.list("cycles", run.cycle_id, "visits")]
    return sorted(found, key=lambda e: e["written_at"])


def _diagnosis(seen: Visit) -> Diagnosis | None:
    if seen.outcome and seen.outcome.diagnosis:
        return seen.outcome.diagnosis
    return seen.last.diagnosis if seen.last else None
