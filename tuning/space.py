"""The dimensions that one sweep varies with their bounds, and how a point of it becomes knobs of workers.

A point maps the name of each dimension to a number; the dimensions are in :mod:`wideloop.tuning.dimensions`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ConfigDict, Field, RootModel, field_validator
from wideloop.manifests.deployment import DeploymentSpec, Knobs, WorkerSpec
from wideloop.manifests.errors import Refused
from wideloop.manifests.findings import Finding
from wideloop.manifests.hardware import Role
from wideloop.tuning.dimensions import DEFAULT_NAMES, DIMENSIONS, Bounds, Dimension, get_dimension

if TYPE_CHECKING:
    import optuna

Point = dict[str, float]


def _usual() -> dict[str, Any]:
    return {
        name: d.bounds({p.name: p.default for p in d.parameters})
        for name in DEFAULT_NAMES
        for d in [get_dimension(name)]
    }


class SearchSpace(RootModel[dict[str, Any]]):
    """Bounds by dimension, in the order of the registry. It is serialised as that mapping.

    Example:
        >>> space = SearchSpace(mem_fraction_static=(0.8, 0.9), chunked_prefill_size=(8192, 16384))
        >>> space["chunked_prefill_size"]
        (8192, 16384)
        >>> space.contains({"mem_fraction_static": 0.85, "chunked_prefill_size": 4096})
        False
    """

    model_config = ConfigDict(frozen=True)

    root: dict[str, Any] = Field(default_factory=_usual)

    @field_validator("root")
    @classmethod
    def _checked(cls, bounds: dict[str, Any]) -> dict[str, Bounds]:
        if not bounds:
            raise ValueError("a search space needs at least one dimension")
        checked = {}
        for name, given in bounds.items():
            dimension = get_dimension(name)
            try:
                checked[name] = dimension.checked(given)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
        return {d.name: checked[d.name] for d in DIMENSIONS if d.name in checked}

    @classmethod
    def asked_for(cls, values: Mapping[str, Any]) -> Self:
        """The space of a form's values: the dimensions that it lists, and those whose choices are given.

        Raises:
            Refused: unknown dimension, or a lower bound that is not below the upper one.
        """
        names = [get_dimension(name).name for name in values["dimensions"]]
        bounds: dict[str, Bounds] = {}
        findings: list[Finding] = []
        for dimension in DIMENSIONS:
            if dimension.name in names or dimension.asked_for(values):
                try:
                    bounds[dimension.name] = dimension.bounds(values)
                except Refused as refusal:
                    findings += refusal.findings
        if findings:
            raise Refused(findings)
        return cls(**bounds)

    def __getitem__(self, name: str) -> Bounds:
        bounds: Bounds = self.root[name]
        return bounds

    def __contains__(self, name: str) -> bool:
        return name in self.root

    @property
    def dimensions(self) -> Iterator[tuple[Dimension, Bounds]]:
        """The dimensions with their bounds, in the order of the registry."""
        return ((get_dimension(name), bounds) for name, bounds in self.root.items())

    def including(self, point: Mapping[str, float]) -> SearchSpace:
        """The smallest space that includes this one and ``point`` (the default may lie outside)."""
        return SearchSpace(**{d.name: d.including(bounds, point[d.name]) for d, bounds in self.dimensions})

    def around(self, spec: DeploymentSpec) -> SearchSpace:
        """This space extended by the default ``spec`` and by the values that it allows (fewer slots than it has)."""
        wider = self.including(point_of(spec, self))
        return SearchSpace(**{d.name: d.widest(bounds, spec) for d, bounds in wider.dimensions})

    def distributions(self) -> dict[str, optuna.distributions.BaseDistribution]:
        """Optuna's distributions, for adding a measured point to a study."""
        return {d.name: d.distribution(bounds) for d, bounds in self.dimensions}

    def suggest(self, trial: optuna.Trial) -> Point:
        """The trial's point, in the digits that engines accept."""
        return {d.name: d.suggest(trial, bounds) for d, bounds in self.dimensions}

    def rounded(self, point: Mapping[str, float]) -> Point:
        """A point of the study's storage in the digits that engines accept."""
        return {name: get_dimension(name).rounded(value) for name, value in point.items()}

    def contains(self, point: Mapping[str, float]) -> bool:
        return all(d.name in point and d.contains(bounds, point[d.name]) for d, bounds in self.dimensions)


class Placements(BaseModel):
    """Path of the placement file for a role and a number of redundant experts, where one was made."""

    model_config = ConfigDict(frozen=True)

    files: dict[str, str] = Field({})

    @staticmethod
    def key(role: Role, redundant_experts: int) -> str:
        return f"{role}-{redundant_experts}"

    def get(self, role: Role, redundant_experts: int) -> str | None:
        return self.files.get(self.key(role, redundant_experts))


def decoder(spec: DeploymentSpec) -> WorkerSpec:
    """The worker that decodes: role ``decode``, or ``aggregated`` when nothing is disaggregated."""
    return next(w for w in spec.workers if w.role in ("decode", "aggregated"))


def prefiller(spec: DeploymentSpec) -> WorkerSpec:
    """The worker that prefills: role ``prefill``, or ``aggregated`` when nothing is disaggregated."""
    return next(w for w in spec.workers if w.role in ("prefill", "aggregated"))


def space_findings(space: SearchSpace, spec: DeploymentSpec) -> list[Finding]:
    """Findings about ``space`` on the workers of ``spec``; their fields are parameters of the form."""
    of_each = [finding for d, bounds in space.dimensions for finding in d.findings(bounds, spec)]
    return [*_set_twice(space, spec), *of_each]


def _set_twice(space: SearchSpace, spec: DeploymentSpec) -> Iterator[Finding]:
    """Errors for dimensions that set the same knob of the same worker, of which the last would silently win."""
    reported = set()
    for worker in spec.workers:
        by_knob: dict[str, list[str]] = {}
        for dimension, _ in space.dimensions:
            if dimension.is_of(worker):
                by_knob.setdefault(dimension.knob, []).append(dimension.name)
        for knob, names in by_knob.items():
            if len(names) > 1 and tuple(names) not in reported:
                reported.add(tuple(names))
                yield Finding(
                    field="dimensions",
                    value=names,
                    rule=f"each of them sets {knob} of the {worker.role} worker",
                    suggestion=f"Leave out {' or '.join(names)}",
                )


def point_of(spec: DeploymentSpec, space: SearchSpace | None = None) -> Point:
    """The point of a fully resolved default, in the dimensions of ``space`` (None: the default ones).

    Raises:
        ValueError: a knob is not resolved.
    """
    names = DEFAULT_NAMES if space is None else tuple(space.root)
    return {name: get_dimension(name).default(spec) for name in names}


def knobs_at(point: Mapping[str, float], spec: DeploymentSpec, placements: Placements) -> dict[Role, Knobs]:
    """The knobs of every role at ``point`` of the default ``spec``, with the recorded placement where there is one."""
    return {worker.role: _knobs_of(worker, point, placements) for worker in spec.workers}


def _knobs_of(worker: WorkerSpec, point: Mapping[str, float], placements: Placements) -> Knobs:
    changed: dict[str, Any] = {}
    for name, value in point.items():
        dimension = get_dimension(name)
        if dimension.is_of(worker):
            changed |= dimension.apply(value, worker)
    if changed.get("eplb") == "online":
        return worker.knobs.changed(**changed)
    placement = placements.get(worker.role, changed.get("redundant_experts", worker.knobs.redundant_experts))
    changed["expert_placement"] = placement
    changed["eplb"] = "static" if placement else worker.knobs.eplb
    return worker.knobs.changed(**changed)


def knobs_shown(spec: DeploymentSpec, searched: Mapping[str, float] | None = None) -> dict[str, dict[str, Any]]:
    """The knobs that pages compare, by role: those always kept, those ``searched``, and the placement's kind."""
    names = searched or {}
    kept = [d for d in DIMENSIONS if d.kept or d.name in names]
    shown: dict[str, dict[str, Any]] = {}
    for worker in spec.workers:
        knobs = worker.knobs
        values = {d.knob: d.shown(knobs) for d in kept if d.is_of(worker)}
        placement = "recorded" if knobs.expert_placement else "online" if knobs.eplb == "online" else "trivial"
        shown[worker.role] = {**values, "placement": placement}
    return shown


def values_shown(workers: Sequence[WorkerSpec], names: Iterable[str] = ()) -> dict[str, Any]:
    """The knobs that pages compare, by the dimension's key: those always kept, and those of ``names``."""
    searched = set(names)
    shown = [d for d in DIMENSIONS if d.kept or d.name in searched]
    return {d.key: d.shown(d.worker(workers).knobs) for d in shown}


def redundancies(space: SearchSpace, worker: WorkerSpec) -> set[int]:
    """Numbers of redundant experts that a sweep may give a default ``worker``: each needs a placement of its own."""
    counts = set()
    for dimension, bounds in space.dimensions:
        if dimension.knob == "redundant_experts" and dimension.is_of(worker):
            slots = range(int(bounds[0]), int(bounds[-1]) + 1)
            counts |= {int(dimension.apply(more, worker)[dimension.knob]) for more in slots}
    return counts or {worker.knobs.redundant_experts}
