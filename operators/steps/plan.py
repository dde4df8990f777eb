"""Check a request before anything is launched, and create its cycle in the results store."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.engines import engine_names, get_engine
from wideloop.manifests.errors import Refused, StoreUnavailable, refuse
from wideloop.manifests.findings import Finding, unknown
from wideloop.operators.request import Request, as_stored
from wideloop.operators.settings import settings
from wideloop.operators.steps.run import Run, artefacts, open_store
from wideloop.operators.targets import open_target
from wideloop.operators.targets.base import Target
from wideloop.results.records import Cycle
from wideloop.results.store import Store
from wideloop.tuning import memory
from wideloop.tuning.placement.findings import placement_findings
from wideloop.tuning.space import decoder, space_findings
from wideloop.tuning.study import TuningStudy

#: Fields of a request in which a run may differ from the cycle that it continues.
_MAY_DIFFER = ("trials", "repeats")


def check(spec: DeploymentSpec) -> list[Finding]:
    """Findings about ``spec`` that need no access to the target."""
    engine, target = get_engine(spec.engine), open_target(spec.target)
    if engine.runtime not in target.runtimes:
        return [_other_runtime(spec, target)]
    findings = engine.validate(spec)
    # Arithmetic on a layout that is wrong in itself would only confuse.
    wrong = any(f.severity == "error" for f in findings)
    return findings if wrong else findings + memory.memory_findings(spec) + placement_findings(spec)


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
    compares_placed: bool = False,
) -> list[str]:
    """Check the request and the stores; record the cycle as running. Returns the warnings.

    A run with a ``cycle_id`` continues that cycle.

    Args:
        deploys: the run will start the form's configuration (image and weights alone do not depend on it).
        must_run: the run needs that configuration, so it is refused when it would run out of memory; a sweep
            without a baseline would record that as an infeasible trial.
        sweeps: the run will use a study.
        records: the run will record expert distributions, where the engine can.
        compares_placed: the run compares experts in order with placed ones, which is pointless without a placement.

    Raises:
        Refused: the request cannot work; says which fields and what would.
        StoreUnavailable: a database or the artefact store cannot be used.
    """
    request = Request.from_params(params)
    open_target(request.target)  # Refuses an unknown one.
    spec = request.spec("plan")
    findings = _deployment_findings(request, spec, records) if deploys else []
    if sweeps:
        findings += space_findings(request.space, spec)
    if compares_placed:
        findings += _placement_source_findings(request)
    refuse([f.changed(severity="error") for f in findings] if must_run else findings)
    with open_store() as store:
        earlier = goes_on_with(request, run, store)
        if sweeps:
            open_study(request, run)
        _keep_request(request, run)
        if earlier is None:
            store.put(_new_cycle(request, spec, run))
        else:
            resumed = {"state": "running", "planned_trials": request.trials, "ended_at": None}
            store.put(Cycle(**{**dict(earlier), **resumed}))
    return [str(f) for f in findings]


def _deployment_findings(request: Request, spec: DeploymentSpec, records: bool) -> list[Finding]:
    """Findings about every form of ``spec`` that the run will start, each once."""
    forms = [request.recorded(spec) if records else spec]
    if request.eplb == "online":
        forms.append(request.online(spec))
    return list({str(f): f for form in forms for f in check(form)}.values())


def _placement_source_findings(request: Request) -> list[Finding]:
    """An error where experts can be placed neither by a recording nor online."""
    engine, target = get_engine(request.engine), open_target(request.target)
    if engine.recorder is not None or request.eplb == "online":
        return []
    others = {name: get_engine(name) for name in engine_names()}
    engines = [name for name, e in others.items() if e.recorder is not None and e.runtime in target.runtimes]
    online = ["eplb 'online', which needs no recording"] if "eplb" in engine.knobs else []
    return [
        Finding(
            field="engine",
            value=request.engine,
            rule="it cannot record which experts are used, so there is no placement to compare with",
            suggestion=f"Use {' or '.join([*(f'engine {name}' for name in engines), *online])}",
        )
    ]


def _keep_request(request: Request, run: Run) -> None:
    """Keep the request as an artefact, which also shows that artefacts can be written."""
    try:
        artefacts().put_json(request.model_dump(mode="json"), "cycles", run.cycle_id, "request.json")
    except Exception as error:
        raise StoreUnavailable(
            f"the artefact store {settings().artefacts_url} cannot be written: {type(error).__name__}: {error}. Set "
            "WIDELOOP_ARTEFACTS_URL to a folder or bucket that this process may write"
        ) from error


def goes_on_with(request: Request, run: Run, store: Store) -> Cycle | None:
    """The cycle that a run adds to; None when it starts one of its own.

    Raises:
        Refused: there is no such cycle, or its request differs: results of two requests would be mixed.
    """
    cycle = store.cycle(run.cycle_id)
    if run.for_cycle is None:
        return cycle
    if cycle is None:
        raise Refused([unknown("cycle_id", run.for_cycle, [c.cycle_id for c in store.cycles()])])
    now = request.model_dump(mode="json")
    refuse(
        Finding(
            field=field,
            value=now[field],
            rule=f"differs from what cycle {cycle.cycle_id} was asked for",
            suggestion=f"Give {value!r}, or leave cycle_id empty for a cycle of its own",
        )
        for field, value in as_stored(cycle.request).items()
        if field not in _MAY_DIFFER and now.get(field) != value
    )
    return cycle


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
    space = request.space.around(request.spec("study"))
    return TuningStudy.open(settings().study_url, run.cycle_id, space, request.seed)


def gpus(spec: DeploymentSpec) -> tuple[int, int]:
    """(all GPUs of a deployment, those of the worker that decodes)."""
    worker = decoder(spec)
    return spec.gpus, worker.layout.gpus * worker.replicas
