"""What a sweep may change, and how a point of it becomes knobs of workers.

Three dimensions, and one that is off unless it is asked for, in the terms of the engine:

``redundant_slots``
    Expert slots per GPU more (or, below zero, fewer) than the default configuration has, for every role. A
    role's redundant experts change by this times its EP, so a valid default stays valid at every point:
    ``(experts + redundant) % EP == 0``, also where prefill and decode differ in EP.
``mem_fraction_static``
    Of the worker that decodes: share of GPU memory for weights and KV cache.
``cuda_graph_max_bs``
    Of the worker that decodes: largest captured batch per attention-DP rank.
``chunked_prefill_size``
    Of the worker that prefills: prompt tokens of one step of the whole worker. A few choices and no range: the
    throughput of prompts changes with its order of magnitude, and what an engine compiles for one is not for the next.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, field_validator, model_serializer
from wideloop.manifests.deployment import DeploymentSpec, Knobs, WorkerSpec
from wideloop.manifests.engines.sglang_defaults import MAX_PREFILL_TOKENS, PAGE_TOKENS
from wideloop.manifests.findings import Finding
from wideloop.manifests.hardware import Role

if TYPE_CHECKING:
    import optuna

Point = dict[str, float]

_Fraction = Annotated[float, Field(gt=0, lt=1)]
_Batch = Annotated[int, Field(ge=1)]
_Chunk = Annotated[int, Field(ge=PAGE_TOKENS, multiple_of=PAGE_TOKENS)]
_BOUNDS = ("redundant_slots", "mem_fraction_static", "cuda_graph_max_bs")
_CHUNK = "chunked_prefill_size"


class SearchSpace(BaseModel):
    """Bounds of three dimensions, both ends included, and the choices of the fourth; none: it is not searched."""

    model_config = ConfigDict(frozen=True)

    redundant_slots: tuple[int, int] = (0, 4)
    mem_fraction_static: tuple[_Fraction, _Fraction] = (0.60, 0.97)
    cuda_graph_max_bs: tuple[_Batch, _Batch] = (2, 64)
    chunked_prefill_size: tuple[_Chunk, ...] = ()

    @field_validator(*_BOUNDS)
    @classmethod
    def _ordered(cls, bounds: tuple[float, float]) -> tuple[float, float]:
        low, high = bounds
        if low >= high:
            raise ValueError(f"lower bound {low} must be below upper bound {high}")
        return bounds

    @field_validator(_CHUNK)
    @classmethod
    def _sorted(cls, choices: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(set(choices)))

    @model_serializer(mode="wrap")
    def _as_if_it_did_not_exist(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A dimension that is off leaves no trace: a sweep from before there was one goes on as the same."""
        data: dict[str, Any] = dump(self)
        return data if self.chunked_prefill_size else {k: v for k, v in data.items() if k != _CHUNK}

    @property
    def _bounds(self) -> Iterator[tuple[str, tuple[float, float]]]:
        return ((name, getattr(self, name)) for name in _BOUNDS)

    def including(self, point: Point) -> SearchSpace:
        """The smallest space that holds this one and ``point`` (the default may lie outside)."""
        wider: dict[str, Any] = {n: (min(low, point[n]), max(high, point[n])) for n, (low, high) in self._bounds}
        if self.chunked_prefill_size:
            wider[_CHUNK] = (*self.chunked_prefill_size, int(point[_CHUNK]))
        return SearchSpace.model_validate(wider)

    def distributions(self) -> dict[str, optuna.distributions.BaseDistribution]:
        """For importing a measured point into a study."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        found: dict[str, optuna.distributions.BaseDistribution] = {
            "redundant_slots": IntDistribution(*self.redundant_slots),
            "mem_fraction_static": FloatDistribution(*self.mem_fraction_static),
            # Doubling the batch matters as much at 4 as at 32.
            "cuda_graph_max_bs": IntDistribution(*self.cuda_graph_max_bs, log=True),
        }
        if self.chunked_prefill_size:
            found[_CHUNK] = CategoricalDistribution(self.chunked_prefill_size)
        return found

    def suggest(self, trial: optuna.Trial) -> Point:
        """The trial's point, with the memory fraction in the three digits that engines take."""
        point: Point = {
            "redundant_slots": trial.suggest_int("redundant_slots", *self.redundant_slots),
            "mem_fraction_static": round(trial.suggest_float("mem_fraction_static", *self.mem_fraction_static), 3),
            "cuda_graph_max_bs": trial.suggest_int("cuda_graph_max_bs", *self.cuda_graph_max_bs, log=True),
        }
        if self.chunked_prefill_size:
            point[_CHUNK] = trial.suggest_categorical(_CHUNK, self.chunked_prefill_size)
        return point

    def contains(self, point: Point) -> bool:
        inside = all(low <= point[n] <= high for n, (low, high) in self._bounds)
        return inside and (not self.chunked_prefill_size or point.get(_CHUNK) in self.chunked_prefill_size)


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


def findings(space: SearchSpace, spec: DeploymentSpec) -> list[Finding]:
    """Choices of the prefill chunk that would be one and the same on the workers of ``spec``."""
    dp = prefiller(spec).layout.dp if space.chunked_prefill_size else 1
    most = MAX_PREFILL_TOKENS * dp
    return [
        Finding(
            field=_CHUNK,
            value=chunk,
            rule=f"a scheduler takes {MAX_PREFILL_TOKENS} prompt tokens into a step at most, and there are {dp} "
            f"(attention DP): more than {most} changes nothing",
            suggestion=f"Use at most {most}",
        )
        for chunk in space.chunked_prefill_size
        if chunk > most
    ]


def redundant_experts(worker: WorkerSpec, slots: int) -> int:
    """Redundant experts of a default ``worker`` with ``slots`` more expert slots per GPU."""
    return worker.knobs.redundant_experts + slots * worker.layout.ep


def fewest_slots(spec: DeploymentSpec) -> int:
    """The smallest ``redundant_slots`` at which no role of the default ``spec`` would lack an expert; <= 0."""
    return -min(w.knobs.redundant_experts // w.layout.ep for w in spec.workers)


def point_of(spec: DeploymentSpec, space: SearchSpace | None = None) -> Point:
    """The point at which a fully resolved default stands, in the dimensions of ``space`` (None: those always there).

    Raises:
        ValueError: a knob of the decoding or prefilling worker is left to the engine.
    """
    knobs = decoder(spec).knobs
    if knobs.mem_fraction_static is None or knobs.cuda_graph_max_bs is None:
        raise ValueError(f"knobs of {decoder(spec).role} are not resolved: {knobs}")
    point: Point = {
        "redundant_slots": 0,
        "mem_fraction_static": knobs.mem_fraction_static,
        "cuda_graph_max_bs": knobs.cuda_graph_max_bs,
    }
    if space is not None and space.chunked_prefill_size:
        chunk = prefiller(spec).knobs.chunked_prefill_size
        if chunk is None:
            raise ValueError(f"the chunk of {prefiller(spec).role} is not resolved")
        point[_CHUNK] = chunk
    return point


def knobs_at(point: Mapping[str, float], spec: DeploymentSpec, placements: Placements) -> dict[Role, Knobs]:
    """The knobs of every role at ``point`` of the default ``spec``, with the recorded placement where there is one."""
    knobs: dict[Role, Knobs] = {}
    decoding = decoder(spec).role
    for worker in spec.workers:
        redundant = redundant_experts(worker, int(point["redundant_slots"]))
        placement = placements.get(worker.role, redundant)
        changed: dict[str, Any] = {
            "redundant_experts": redundant,
            "expert_placement": placement,
            "eplb": "static" if placement else worker.knobs.eplb,
        }
        if worker.role == decoding:
            changed["mem_fraction_static"] = float(point["mem_fraction_static"])
            changed["cuda_graph_max_bs"] = int(point["cuda_graph_max_bs"])
        if worker.role != "decode" and _CHUNK in point:
            changed[_CHUNK] = int(point[_CHUNK])
        knobs[worker.role] = worker.knobs.model_copy(update=changed)
    return knobs
