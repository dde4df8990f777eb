"""Judge a request before anything is launched, and open its page in the results store."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.engines import engine_names, get_engine
from wideloop.manifests.errors import Refused, StoreUnavailable, refuse
from wideloop.manifests.findings import Finding, unknown
from wideloop.manifests.workload import Workload
from wideloop.operators.request import Request
from wideloop.operators.settings import settings
from wideloop.operators.steps.run import Run, artefacts, open_store
from wideloop.operators.targets import open_target
from wideloop.operators.targets.base import Target
from wideloop.results.records import Cycle
from wideloop.results.store import Store
from wideloop.tuning import memory, space
from wideloop.tuning.placement import findings as placement
from wideloop.tuning.space import decoder, fewest_slots, point_of
from wideloop.tuning.study import TuningStudy

#: What a run may ask for otherwise than the cycle it goes on with.
_MAY_DIFFER = ("trials", "repeats")


def check(spec: DeploymentSpec) -> list[Finding]:
    """Everything that can be said against a spec without touching the target."""
    engine, target = get_engine(spec.engine), open_target(spec.target)
    if engine.runtime not in target.runtimes:
        return [_other_runtime(spec, target)]
    findings = engine.validate(spec)
    # Arithmetic on a layout that is wrong in itself would only confuse.
    wrong = any(f.severity == "error" for f in findings)
    return findings if wrong else findings + memory.findings(spec) + placement.findings(spec)


def _other_runtime(spec: DeploymentSpec, target: Target) -> Finding:
    runs = [name for name in engine_names() if get_engine(name).runtime in target.runtimes]
    return Finding(
        field="engine",
        value=spec.engine,
        rule=f"its workers run {get_engine(spec.engine).runtime}, which target {target.name} cannot provide",
        suggestion=f"Use {' or '.join(runs)}",
    )


def plan(
    params: Mapping[str, Any],
    run: Run,
    *,
    deploys: bool = True,
    must_run: bool = True,
    sweeps: bool = False,
    records: bool = False,
) -> list[str]:
    """Check the request and the stores; record the cycle as running. Returns the warnings.

    A run that works for an earlier cycle goes on with that one.

    Args:
        deploys: the run will start the form's configuration (image and weights alone do not depend on it).
        must_run: nothing can be done when that configuration runs out of memory, so it is refused; a sweep of
            its own would find that out as a trial.
        sweeps: the run will use a study.
        records: the run will record expert distributions.

    Raises:
        Refused: the request cannot work; says which fields and what would.
        StoreUnavailable: a database or the artefact store cannot be used.
    """
    request = Request.from_params(params)
    open_target(request.target)  # Refuses one that there is not.
    spec = request.spec("plan")
    asked = [request.recorded(spec) if records else spec]
    if request.eplb == "online":
        asked.append(request.online(spec))
    found = {str(f): f for one in asked for f in check(one)} if deploys else {}
    findings = list(found.values())
    if sweeps:
        findings += [f.model_copy(update={"field": "prefill_chunks"}) for f in space.findings(request.space, spec)]
    refuse([f.model_copy(update={"severity": "error"}) for f in findings] if must_run else findings)
    with open_store() as store:
        known = goes_on_with(request, run, store)
        if sweeps:
            open_study(request, run)
        try:
            artefacts().put_json(request.model_dump(mode="json"), "cycles", run.cycle_id, "request.json")
        except Exception as error:
            where = settings().artefacts_url
            raise StoreUnavailable(
                f"the artefact store {where} cannot be written: {type(error).__name__}: {error}. Set "
                "WIDELOOP_ARTEFACTS_URL to a folder or bucket that this process may write"
            ) from error
        again = {"state": "running", "planned_trials": request.trials, "ended_at": None}
        store.put(known.model_copy(update=again) if known else _new_cycle(request, spec, run))
    return [str(f) for f in findings]


def goes_on_with(request: Request, run: Run, store: Store) -> Cycle | None:
    """The cycle that a run adds to, None when it begins one of its own.

    Raises:
        Refused: there is no such cycle, or it asked for something else: its results would be mixed.
    """
    known = store.cycle(run.cycle_id)
    if run.for_cycle is None:
        return known
    if known is None:
        raise Refused([unknown("cycle_id", run.for_cycle, [c.cycle_id for c in store.cycles()])])
    now = request.model_dump(mode="json")
    stored = known.request | {"workload": _workload_of(known)}
    refuse(
        Finding(
            field=field,
            value=now[field],
            rule=f"differs from what cycle {known.cycle_id} was asked for",
            suggestion=f"Give {value!r}, or leave cycle_id empty for a cycle of its own",
        )
        for field, value in stored.items()
        if field not in _MAY_DIFFER and now.get(field) != value
    )
    return known


def _workload_of(cycle: Cycle) -> dict[str, Any]:
    """The workload that a cycle was asked for, with the fields that it had not when it was stored."""
    return Workload.model_validate(cycle.request["workload"]).model_dump(mode="json")


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
    """The study of this run's cycle; its space holds the default configuration, and fewer slots than that has."""
    spec = request.spec("study")
    default = point_of(spec, request.space)
    wider = request.space.including(default).including({**default, "redundant_slots": fewest_slots(spec)})
    return TuningStudy.open(settings().study_url, run.cycle_id, wider, request.seed)


def gpus(spec: DeploymentSpec) -> tuple[int, int]:
    """(all GPUs of a deployment, those of the worker that decodes)."""
    worker = decoder(spec)
    return spec.gpus, worker.layout.gpus * worker.replicas
