"""Every configuration that a run may come to, judged before anything is launched.

A cycle pays for its baseline first, and its placed experts and trials follow hours later. What is certain to fail there
is said by the first task, and names the configuration.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product

from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.engines import engine_names, get_engine
from wideloop.manifests.findings import Finding
from wideloop.operators.request import Request, why_not_placed
from wideloop.operators.request.placing import LATER, placed_later
from wideloop.operators.targets import open_target
from wideloop.operators.targets.base import Target
from wideloop.tuning import memory
from wideloop.tuning.placement.findings import placement_findings
from wideloop.tuning.space import Placements, knobs_at


@dataclass(frozen=True)
class Scope:
    """What a run will do, as far as it decides which configurations it starts.

    Attributes:
        deploys: it starts the form's configuration (image and weights alone do not depend on it).
        must_run: it needs that configuration; a sweep without a baseline would record it as an infeasible trial.
        sweeps: it uses a study.
        records: it records expert distributions, where the engine can.
        compares_placed: it compares experts in order with placed ones, which is pointless without a placement.
    """

    deploys: bool = True
    must_run: bool = True
    sweeps: bool = False
    records: bool = False
    compares_placed: bool = False


@dataclass(frozen=True)
class Configuration:
    """One of the deployments that a run may start; ``name`` completes "with ..." and is empty for the default."""

    name: str
    spec: DeploymentSpec


def check(spec: DeploymentSpec) -> list[Finding]:
    """Findings about ``spec`` that need no access to the target."""
    engine, target = get_engine(spec.engine), open_target(spec.target)
    if engine.runtime not in target.runtimes:
        return [_other_runtime(spec, target)]
    added = target.added_options(engine)
    findings = engine.validate(spec) + engine.option_findings(added.setting, added.flags, spec)
    # Arithmetic on a layout that is wrong in itself would only confuse.
    wrong = any(f.severity == "error" for f in findings)
    return findings if wrong else [*findings, *memory.memory_findings(spec), *_placements(spec)]


def configuration_findings(request: Request, spec: DeploymentSpec, scope: Scope) -> list[Finding]:
    """Findings about the configurations of a run that begins with the default ``spec``, each once.

    Errors and infeasible ones are about configurations without which the run has no purpose. What concerns a part of a
    sweep is a warning.
    """
    if not scope.deploys:
        return []
    if scope.compares_placed:
        spec = request.comparable(spec)
    default = Configuration("", request.recorded(spec) if scope.records else spec)
    findings = _judged(default)
    findings += get_engine(spec.engine).load_findings(spec, max(request.workload.concurrency))
    if not scope.must_run:
        return findings
    if any(f.severity != "warning" for f in findings):
        return findings  # All that follows is built on it.
    if request.eplb == "online":
        findings += _judged(Configuration("experts rebalanced online", request.online(spec)))
    elif scope.compares_placed:
        findings += _judged(Configuration("placed experts", placed_later(spec)))
    elif scope.records and (reason := why_not_placed(spec)) is not None:
        findings.append(_no_placement(request, reason))
    if scope.sweeps:
        findings += _corner_findings(request, spec, placed=scope.records and why_not_placed(spec) is None)
    return list({str(f): f for f in findings}.values())


def _no_placement(request: Request, reason: str) -> Finding:
    return Finding(
        field="engine",
        value=request.engine,
        rule=f"the stages that place experts are skipped: {reason}",
        suggestion="Nothing has to be done; every configuration keeps its experts in order",
        severity="warning",
        id="no-placement",
    )


def corners(request: Request, spec: DeploymentSpec, *, placed: bool) -> Iterator[Configuration]:
    """The configurations at the corners of the sweep's space around the default ``spec``."""
    space = request.space.around(spec)
    ends = {d.name: sorted({bounds[0], bounds[-1]}) for d, bounds in space.dimensions}
    for values in product(*ends.values()):
        point = dict(zip(ends, values, strict=True))
        trial = spec.with_knobs(spec.name, knobs_at(point, spec, Placements()))
        yield Configuration(_named(point), placed_later(trial) if placed else trial)


def _named(point: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in point.items())


def _judged(configuration: Configuration) -> list[Finding]:
    findings = check(configuration.spec)
    if not configuration.name:
        return findings
    return [f.changed(rule=f"with {configuration.name}: {f.rule}") for f in findings]


def _corner_findings(request: Request, spec: DeploymentSpec, *, placed: bool) -> Iterable[Finding]:
    """One warning about the corners that cannot run; the error where the engine refuses every one of them."""
    judged = [(corner, check(corner.spec)) for corner in corners(request, spec, placed=placed)]
    failing = [(corner, [f for f in found if f.severity != "warning"]) for corner, found in judged]
    failing = [(corner, found) for corner, found in failing if found]
    if not failing:
        return
    refused = [found for _, found in failing if any(f.severity == "error" for f in found)]
    if len(refused) == len(judged):
        how = "placed experts" if placed else "every configuration of the sweep"
        yield from (f.changed(rule=f"with {how}: {f.rule}") for f in refused[0])
        return
    corner, (first, *_) = failing[0]
    yield Finding(
        field="dimensions",
        value=corner.name,
        rule=f"{len(failing)} of the {len(judged)} corners of the sweep's space cannot run, for instance this one "
        f"({first.field} = {first.value!r}: {first.rule}); trials there end as infeasible",
        suggestion=f"Narrow the bounds, or let the sweep learn it. {first.suggestion}",
        severity="warning",
        id="infeasible-corners",
    )


def _placements(spec: DeploymentSpec) -> list[Finding]:
    """Findings about placement files that exist."""
    existing = {
        w.role: w.knobs if w.knobs.expert_placement != LATER else w.knobs.changed(expert_placement=None)
        for w in spec.workers
    }
    return placement_findings(spec.with_knobs(spec.name, existing))


def _other_runtime(spec: DeploymentSpec, target: Target) -> Finding:
    runs = [name for name in engine_names() if get_engine(name).runtime in target.runtimes]
    return Finding(
        field="engine",
        value=spec.engine,
        rule=f"its workers run {get_engine(spec.engine).runtime}, which target {target.name} cannot provide",
        suggestion=f"Use {' or '.join(runs)}",
    )
