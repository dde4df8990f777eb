"""Judge a request before anything is launched, and open its page in the results store."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from manifests.deployment import DeploymentSpec
from manifests.engines import engine
from manifests.errors import refuse
from manifests.findings import Finding, unknown
from operators.request import Request
from operators.settings import settings
from operators.steps.run import Run, open_store
from operators.targets import target
from results.records import Cycle
from tuning import memory
from tuning.space import decoder, point_of
from tuning.study import TuningStudy


def check(spec: DeploymentSpec) -> list[Finding]:
    """Everything that can be said against a spec without touching the target."""
    findings = engine(spec.engine).validate(spec)
    # Arithmetic on a layout that is wrong in itself would only confuse.
    return findings or memory.findings(spec)


def plan(params: Mapping[str, Any], run: Run) -> list[str]:
    """Check the request and the databases; record the cycle as running. Returns the warnings.

    A run that works for an earlier cycle goes on with that one.

    Raises:
        Refused: the request cannot work; says which fields and what would.
        StoreUnavailable: a database cannot be used.
    """
    request = Request.from_params(params)
    spec = request.spec("plan")
    findings = check(spec)
    refuse(findings)
    target(request.target)  # Refuses one that there is not.
    with open_store() as store:
        known = store.cycle(run.cycle_id)
        if known is None and run.for_cycle is not None:
            refuse([unknown("cycle_id", run.for_cycle, [c.cycle_id for c in store.cycles()])])
        open_study(request, run)
        goes_on = {"state": "running", "planned_trials": request.trials, "ended_at": None}
        store.put(known.model_copy(update=goes_on) if known else _new_cycle(request, spec, run))
    return [str(f) for f in findings]


def _new_cycle(request: Request, spec: DeploymentSpec, run: Run) -> Cycle:
    return Cycle(
        cycle_id=run.cycle_id,
        dag_id=run.dag_id,
        dag_run_id=run.run_id,
        title=request.title,
        state="running",
        engine=request.engine,
        target=request.target,
        simulated=request.simulated,
        model=spec.model.name,
        hardware=spec.hardware.name,
        request=request.model_dump(mode="json"),
        study=run.cycle_id,
        planned_trials=request.trials,
        started_at=datetime.now(UTC),
    )


def open_study(request: Request, run: Run) -> TuningStudy:
    """The study of this run's cycle; its space holds the default configuration."""
    space = request.space.including(point_of(request.spec("study")))
    return TuningStudy.open(settings().study_url, run.cycle_id, space, request.seed)


def gpus(spec: DeploymentSpec) -> tuple[int, int]:
    """(all GPUs of a deployment, those of the worker that decodes)."""
    worker = decoder(spec)
    return spec.gpus, worker.layout.gpus * worker.replicas
