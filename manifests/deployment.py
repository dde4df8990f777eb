"""A deployment as data: which engine, which model, which workers, which knobs."""

from __future__ import annotations

import hashlib
import re
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer
from wideloop.manifests.frozen import Frozen, without_defaults
from wideloop.manifests.hardware import HardwareProfile, Role, WorkerLayout
from wideloop.manifests.model import LATER_FIELDS, ModelSpec

#: Grove limits the names it derives to 45 characters: the deployment's name, "prefill" and "prefill-ldr" at most.
MAX_NAME = 27
NAME_RULE = f"must be at most {MAX_NAME} of a-z, 0-9 and '-', starting with a letter, not ending with '-'"
NAME_PATTERN = "^[a-z]([-a-z0-9]*[a-z0-9])?$"
_NAME = re.compile(NAME_PATTERN.strip("^$"))
#: Upper bounds are above what any model, engine or host has: no number of a form shall take the memory or the time of
#: the task that checks it. Here, requests that SGLang runs at a time per attention-DP rank (``resolve_max_num_reqs``).
MOST_RUNNING = 4096
#: Experts, redundant ones too; the largest models have 512.
MOST_EXPERTS = 4096
#: Tokens of a context; the longest published ones have 10 million.
MOST_CONTEXT = 2**24
#: Tokens in the KV cache of one rank; half a terabyte at 1 kB each.
MOST_CACHED = 500_000_000
#: Forward passes; a day of decoding has about three million.
MOST_PASSES = 10_000_000
#: Workers of one role.
MOST_REPLICAS = 1024

#: Modes of SGLang's expert-distribution recorder.
RecorderMode = Literal["stat", "stat_approx", "per_pass", "per_token"]
_LATER_KNOBS = (
    *("max_total_tokens", "context_length", "radix_cache", "page_size"),
    *("attention_backend", "dispatch_algorithm", "eplb_algorithm"),
)


def is_name(name: str) -> bool:
    """Whether ``name`` is valid for a deployment or a client; a valid name is also safe as a folder's name."""
    return len(name) <= MAX_NAME and _NAME.fullmatch(name) is not None


class Knobs(Frozen):
    """What can be tuned on a worker. ``None`` means: the engine's own default.

    ``cuda_graph_max_bs`` is a batch size per attention-DP rank, as in SGLang.
    ``expert_placement`` is the path of a placement file (``physical_to_logical_map``); without one
    the engine places experts in order ("trivial"). ``deepep_mode`` "off" resolves to None: no DeepEP.
    """

    redundant_experts: int = Field(0, ge=0, le=MOST_EXPERTS)
    mem_fraction_static: float | None = Field(None, gt=0, lt=1)
    cuda_graph_max_bs: int | None = Field(None, ge=1, le=MOST_RUNNING)
    eplb: Literal["off", "static", "online"] = "off"
    eplb_rebalance_iterations: int = Field(1000, ge=1, le=MOST_PASSES)
    expert_placement: str | None = None
    deepep_mode: Literal["off", "auto", "normal", "low_latency"] | None = None
    deepep_dispatch_tokens: int | None = Field(None, ge=1, le=MOST_RUNNING)
    two_batch_overlap: bool = False
    chunked_prefill_size: int | None = Field(None, ge=1, le=MOST_CONTEXT)
    max_running_requests: int | None = Field(None, ge=1, le=MOST_RUNNING * MOST_REPLICAS)
    max_total_tokens: int | None = Field(None, ge=1, le=MOST_CACHED)
    context_length: int | None = Field(None, ge=1, le=MOST_CONTEXT)
    radix_cache: bool = True
    page_size: int | None = Field(None, ge=1, le=MOST_RUNNING)
    attention_backend: str | None = Field(None, pattern="^[a-z0-9_]+$")
    dispatch_algorithm: Literal["static", "dynamic", "lp"] | None = None
    eplb_algorithm: str | None = Field(None, pattern="^[a-z0-9_]+$")

    @model_serializer(mode="wrap")
    def _used_only(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_defaults(handler(self), type(self), _LATER_KNOBS)


class WorkerSpec(Frozen):
    """One worker: a role, a layout of GPUs, its knobs, and flags that the user adds to the engine's command line."""

    role: Role
    layout: WorkerLayout
    replicas: int = Field(1, ge=1, le=MOST_REPLICAS)
    knobs: Knobs = Knobs()
    options: tuple[str, ...] = ()

    @model_serializer(mode="wrap")
    def _used_only(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_defaults(handler(self), type(self), ("options",))


class DeploymentSpec(Frozen):
    """Everything that decides how a deployment behaves.

    ``engine_version`` is the engine's own, e.g. ``0.5.21`` for SGLang: flags depend on it. ``image`` is a digest:
    ``sha256:...`` of a container image or of an environment's lock file.
    ``model_path`` is where the weights are on the target. ``record_experts`` starts engines with a recorder of that
    mode, None without one; ``recorded_passes`` is how many forward passes, the last ones, it keeps in GPU memory (-1:
    all). ``options`` are the flags that the target's settings add to every worker, which decide how it behaves, too.
    """

    name: str
    target: str
    engine: str
    engine_version: str = ""
    image: str
    model: ModelSpec
    model_path: str
    hardware: HardwareProfile
    workers: tuple[WorkerSpec, ...] = Field(min_length=1)
    record_experts: RecorderMode | None = None
    recorded_passes: int = Field(1000, ge=-1, le=MOST_PASSES)
    options: tuple[str, ...] = ()

    @model_serializer(mode="wrap")
    def _used_only(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_defaults(handler(self), type(self), ("options",))

    @field_validator("name")
    @classmethod
    def _kubernetes_name(cls, name: str) -> str:
        if not is_name(name):
            raise ValueError(f"{NAME_RULE}: {name!r}")
        return name

    @property
    def gpus(self) -> int:
        return sum(w.layout.gpus * w.replicas for w in self.workers)

    @property
    def fingerprint(self) -> str:
        """12 hex digits of all fields but the name: equal for specs that behave alike."""
        text = self.model_dump_json(exclude={"name": True, "model": set(LATER_FIELDS)})
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def worker(self, role: Role) -> WorkerSpec:
        """The worker with ``role``.

        Raises:
            KeyError: there is none.
        """
        for worker in self.workers:
            if worker.role == role:
                return worker
        raise KeyError(role)

    def with_knobs(self, name: str, knobs: dict[Role, Knobs]) -> DeploymentSpec:
        """The same deployment under another name with the knobs of some roles replaced."""
        workers = tuple(w.changed(knobs=knobs.get(w.role, w.knobs)) for w in self.workers)
        return self.changed(name=name, workers=workers)
