"""What the driver keeps of each deployment besides its measurements and logs: engine figures and timings."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.diagnosis import Diagnosis
from wideloop.manifests.engines import get_engine
from wideloop.manifests.errors import TargetError
from wideloop.operators.standalone.deployment_run import DeploymentRun
from wideloop.operators.steps.benchmark import Subject
from wideloop.operators.steps.run import Run, artefacts
from wideloop.operators.targets import open_target
from wideloop.operators.targets.local import gpus
from wideloop.results import engine_metrics

log = logging.getLogger(__name__)

#: Folder of the entries in the artefact store; its name is part of what is stored.
_ENTRIES = "visits"


def engine_figures(target_name: str, name: str) -> dict[str, Any]:
    """By worker: the figures of its metrics page; also the memory in use on all GPUs, MiB. Empty when simulated."""
    target = open_target(target_name)
    engine = get_engine(target.spec(name).engine)
    if engine.simulated:
        return {}
    figures: dict[str, Any] = {}
    for component in target.endpoints(name).control if engine.metrics else ():
        try:
            page = "\n".join(target.call_all(name, component, engine.metrics_path, method="GET"))
        except TargetError as error:
            log.warning("the metrics of %s cannot be read: %s", name, error)
            continue
        read = engine_metrics.read_metrics(page, engine.metrics)
        if read.without_graphs:
            log.warning("%s: %.0f decode steps ran without a CUDA graph", name, read.eager_decode_passes)
        figures[component] = read.model_dump(exclude_none=True)
    figures["gpu_used_mib"] = [g.used_mib for g in gpus.read()]
    return figures


def keep_entry(
    run: Run, deployment_run: DeploymentRun, subject: Subject, spec: DeploymentSpec, figures: dict[str, Any]
) -> None:
    """Keep the entry of a deployment; ``subject`` is what was measured last."""
    diagnosis = _diagnosis(deployment_run)
    outcome = deployment_run.outcome
    entry = {
        "deployment": deployment_run.name,
        "purpose": subject.purpose,
        "label": subject.label,
        "trial_number": subject.trial_number,
        "repeat": subject.repeat,
        "workers": [w.model_dump(mode="json") for w in spec.workers],
        "state": outcome.state if outcome else "failed",
        "diagnosis": diagnosis.model_dump(mode="json") if diagnosis else None,
        "start_seconds": outcome.start_seconds if outcome else None,
        "seconds": {part: round(s, 3) for part, s in deployment_run.seconds.items()},
        "overhead_s": round(deployment_run.overhead_s, 3),
        "engine": figures,
        "written_at": datetime.now(UTC).isoformat(),
    }
    artefacts().put_json(entry, "cycles", run.cycle_id, _ENTRIES, f"{deployment_run.name}.json")


def entries(run: Run) -> list[dict[str, Any]]:
    """All entries of the cycle, oldest first."""
    keep = artefacts()
    kept = [keep.read_json(uri) for uri in keep.list("cycles", run.cycle_id, _ENTRIES)]
    return sorted(kept, key=lambda e: e["written_at"])


def _diagnosis(deployment_run: DeploymentRun) -> Diagnosis | None:
    if deployment_run.outcome and deployment_run.outcome.diagnosis:
        return deployment_run.outcome.diagnosis
    return deployment_run.last.diagnosis if deployment_run.last else None
