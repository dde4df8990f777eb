"""Check a request before anything is launched, and create its cycle in the results store."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.engines import engine_names, get_engine
from wideloop.manifests.errors import Refused, StoreUnavailable, refuse
from wideloop.manifests.findings import Finding, unknown
from wideloop.operators.request import Request, as_stored, is_placed, why_not_placed
from wideloop.operators.settings import settings
from wideloop.operators.steps.configurations import Scope, check, configuration_findings
from wideloop.operators.steps.run import Run, artefacts, open_store
from wideloop.operators.targets import open_target
from wideloop.results.records import Cycle, PlanWarning
from wideloop.results.store import Store
from wideloop.results.workload_findings import workload_findings
from wideloop.tuning.deployment_physics import physics_of
from wideloop.tuning.space import decoder, space_findings
from wideloop.tuning.study import TuningStudy

__all__ = ["check", "goes_on_with", "gpus", "open_cycle", "open_study", "plan", "warnings_left"]

#: Fields of a request in which a run may differ from the cycle that it continues.
_MAY_DIFFER = ("trials", "min_repeats", "repeats", "max_gpu_hours", "max_hours", "least_gain", "accept")


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
    """Check the request and the stores; record the cycle as running. Returns the warnings that were not accepted.

    A run with a ``cycle_id`` continues that cycle. What the run will do is said as the fields of a
    :class:`~wideloop.operators.steps.configurations.Scope`.

    Raises:
        Refused: the request is certain to fail; says which fields and what would work.
        StoreUnavailable: a database or the artefact store cannot be used.
    """
    scope = Scope(deploys, must_run, sweeps, records, compares_placed)
    request = Request.from_params(params)
    open_target(request.target)  # Refuses an unknown one.
    spec = request.spec("plan")
    findings = configuration_findings(request, spec, scope)
    if scope.deploys:
        findings += workload_findings(request.workload, request.slo if scope.sweeps else None)
    if scope.sweeps:
        findings += space_findings(request.space, spec)
    if scope.compares_placed:
        findings += _placement_source_findings(request, request.comparable(spec))
    refuse(f.changed(severity="error") for f in findings if scope.must_run and f.severity != "warning")
    refuse(findings)
    open_cycle(request, spec, findings, run, sweeps=scope.sweeps)
    return warnings_left(request, findings)


def open_cycle(
    request: Request, spec: DeploymentSpec, findings: list[Finding], run: Run, *, sweeps: bool = False
) -> None:
    """Record the run's cycle as running, with its warnings; ``sweeps`` also opens its study.

    Raises:
        Refused: the run continues a cycle whose request differs.
        StoreUnavailable: a database or the artefact store cannot be used.
    """
    with open_store() as store:
        earlier = goes_on_with(request, run, store)
        if sweeps:
            open_study(request, run)
        _keep_request(request, run)
        warnings = _warnings(findings, request.accept, earlier)
        if earlier is None:
            store.put(_new_cycle(request, spec, run, warnings))
        else:
            resumed = {"state": "running", "planned_trials": request.trials, "ended_at": None, "warnings": warnings}
            store.put(Cycle(**{**dict(earlier), **resumed}))


def warnings_left(request: Request, findings: list[Finding]) -> list[str]:
    """The warnings that the request does not accept, and accepted names that no warning has."""
    return [*(str(f) for f in findings if f.name not in request.accept), *_accepted_in_vain(request, findings)]


def _warnings(findings: list[Finding], accept: Collection[str], earlier: Cycle | None) -> tuple[PlanWarning, ...]:
    """The warnings for the cycle's page: those of ``findings``, and those that an earlier run of the cycle had."""
    kept = {w.text: w for w in (earlier.warnings if earlier else ())}
    now = {str(f): PlanWarning(id=f.name, text=str(f), accepted=f.name in accept) for f in findings}
    return tuple({**kept, **now}.values())


def _accepted_in_vain(request: Request, findings: list[Finding]) -> Iterator[str]:
    """A line for each accepted name that no warning has: it may be misspelt."""
    names = {f.name for f in findings}
    for name in request.accept:
        if name not in names:
            occurring = ", ".join(sorted(names)) or "there are none"
            yield f"accept names {name!r}, and no warning of this run is called so: {occurring}"


def _placement_source_findings(request: Request, spec: DeploymentSpec) -> list[Finding]:
    """An error where experts can be placed neither by a recording nor online."""
    engine, target = get_engine(request.engine), open_target(request.target)
    if engine.recorder is not None and not any(map(is_placed, spec.workers)):
        rule = str(why_not_placed(spec))
        works = "Use a hardware profile whose workers have a larger EP, e.g. h200-16"
        return [Finding(field="hardware", value=request.hardware, rule=rule, suggestion=works)]
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


def _new_cycle(request: Request, spec: DeploymentSpec, run: Run, warnings: tuple[PlanWarning, ...]) -> Cycle:
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
        warnings=warnings,
    )


def open_study(request: Request, run: Run) -> TuningStudy:
    """The study of this run's cycle; its space holds the default configuration, and fewer slots than that has."""
    spec = request.spec("study")
    return TuningStudy.open(
        settings().study_url, run.cycle_id, request.space.around(spec), request.seed, physics_of(spec)
    )


def gpus(spec: DeploymentSpec) -> tuple[int, int]:
    """(all GPUs of a deployment, those of the worker that decodes)."""
    worker = decoder(spec)
    return spec.gpus, worker.layout.gpus * worker.replicas
