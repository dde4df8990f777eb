"""What a DAG run was asked to do, from the flat params of its trigger form to specs.

Building a request is cheap and pure, so every task does it for itself; XCom carries only what tasks
found out (an image digest, a model path, a trial's number).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from wideloop.manifests import profiles
from wideloop.manifests.clients import get_load_generator
from wideloop.manifests.clients.base import LoadGenerator
from wideloop.manifests.deployment import DeploymentSpec, Knobs, RecorderMode, WorkerSpec
from wideloop.manifests.engines import get_engine
from wideloop.manifests.errors import Refused, refuse
from wideloop.manifests.findings import Finding, unknown
from wideloop.manifests.hardware import HardwareProfile
from wideloop.manifests.model import ModelSpec
from wideloop.manifests.workload import Slo, Workload
from wideloop.tuning.space import SearchSpace

#: Placeholder in specs that are only judged, before an image or a model cache exists.
UNKNOWN = "unknown"


#: What a trigger form starts with; a DAG that lacks a field uses the same.
DEFAULTS: dict[str, Any] = {
    "target": "local",
    "engine": "simulated",
    "engine_version": None,
    "model": "Qwen3-235B-A22B-FP8",
    "hardware": "h100-8",
    "client": "aiperf",
    "isl": 2048,
    "osl": 64,
    "concurrency": [16, 48],
    "requests_per_slot": 3,
    "warmup_requests": 8,
    "seed": 1,
    "slo_ttft_p99_ms": 5000,
    "slo_tpot_p99_ms": 100,
    "redundant_experts": 0,
    "mem_fraction_static": None,
    "cuda_graph_max_bs": None,
    "recorder": "stat",
    "recorded_passes": 1000,
    "eplb": "static",
    "eplb_rebalance_iterations": 1000,
    "trials": 8,
    "repeats": 2,
    "max_redundant_slots": 4,
    "min_mem_fraction": 0.8,
    "max_mem_fraction": 0.98,
    "min_graph_bs": 4,
    "max_graph_bs": 256,
    "prefill_chunks": [],
}


#: Params of a run that are no part of its request: what it works on, for and with.
RUN_OPTIONS = ("action", "cycle_id", "deployment", "image", "keep_hours", "model_path", "repeat", "repeat_of")


def refuse_unknown(params: Mapping[str, Any], names: Iterable[str]) -> None:
    """Refuse params that are none of ``names``, each with the nearest one.

    Raises:
        Refused: there are some.
    """
    known = set(names)
    refuse(
        Finding(field=name, value=value, rule="is not a parameter", suggestion=unknown(name, name, known).suggestion)
        for name, value in params.items()
        if name not in known
    )


class Request(BaseModel):
    """One DAG run's wishes. Fields are named as the params are."""

    model_config = ConfigDict(frozen=True)

    target: str
    engine: str
    engine_version: str | None
    model: str
    hardware: str
    workload: Workload
    slo: Slo
    knobs: Knobs
    recorder: RecorderMode
    recorded_passes: int
    eplb: Literal["static", "online"]
    rebalance_iterations: int
    space: SearchSpace
    trials: int
    repeats: int
    seed: int

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Request:
        """Read the params of a DAG run.

        Raises:
            Refused: there is no such param or load generator, or a value is outside what its field takes.
        """
        refuse_unknown(params, (*DEFAULTS, *RUN_OPTIONS))
        p = DEFAULTS | dict(params)
        try:
            return cls(
                target=p["target"],
                engine=p["engine"],
                engine_version=p["engine_version"] or None,
                model=p["model"],
                hardware=p["hardware"],
                workload=Workload(
                    isl=p["isl"],
                    osl=p["osl"],
                    concurrency=tuple(sorted(p["concurrency"])),
                    requests_per_slot=p["requests_per_slot"],
                    warmup_requests=p["warmup_requests"],
                    seed=p["seed"],
                    client=p["client"],
                    client_version=get_load_generator(p["client"]).version,
                ),
                slo=Slo(ttft_p99_ms=p["slo_ttft_p99_ms"], tpot_p99_ms=p["slo_tpot_p99_ms"]),
                knobs=Knobs(
                    redundant_experts=p["redundant_experts"],
                    mem_fraction_static=p["mem_fraction_static"],
                    cuda_graph_max_bs=p["cuda_graph_max_bs"],
                ),
                recorder=p["recorder"],
                recorded_passes=p["recorded_passes"],
                eplb=p["eplb"],
                rebalance_iterations=p["eplb_rebalance_iterations"],
                space=SearchSpace(
                    redundant_slots=(0, p["max_redundant_slots"]),
                    mem_fraction_static=(p["min_mem_fraction"], p["max_mem_fraction"]),
                    cuda_graph_max_bs=(p["min_graph_bs"], p["max_graph_bs"]),
                    chunked_prefill_size=p["prefill_chunks"] or (),
                ),
                trials=p["trials"],
                repeats=p["repeats"],
                seed=p["seed"],
            )
        except ValidationError as error:
            # One for each field: what is wrong with a part of it also makes the whole of it wrong.
            found = {f.field: f for f in reversed([_finding(e, error.title) for e in error.errors()])}
            raise Refused([*found.values()]) from error

    @property
    def model_spec(self) -> ModelSpec:
        return profiles.model(self.model)

    @property
    def hardware_profile(self) -> HardwareProfile:
        return profiles.hardware(self.hardware)

    @property
    def generator(self) -> LoadGenerator:
        """The load generator that measures this request's deployments."""
        return get_load_generator(self.workload.client)

    @property
    def simulated(self) -> bool:
        return get_engine(self.engine).simulated

    @property
    def title(self) -> str:
        """One line that tells this request from others."""
        levels = ", ".join(str(c) for c in self.workload.concurrency)
        load = f"ISL {self.workload.isl} / OSL {self.workload.osl}, concurrency {levels}"
        return f"{self.model} on {self.hardware}, {load}"

    def spec(self, name: str, image: str = UNKNOWN, model_path: str = UNKNOWN) -> DeploymentSpec:
        """The deployment asked for, every knob resolved to what the engine will use.

        ``redundant_experts`` and the decode knobs of the form apply to every role and to the worker that
        decodes; what the form leaves open is the engine's own default.
        """
        hardware = self.hardware_profile
        workers = []
        for role, layout in hardware.workers.items():
            knobs = self.knobs if role != "prefill" else Knobs(redundant_experts=self.knobs.redundant_experts)
            workers.append(WorkerSpec(role=role, layout=layout, knobs=knobs))
        spec = DeploymentSpec(
            name=name,
            target=self.target,
            engine=self.engine,
            engine_version=self.engine_version or get_engine(self.engine).default_version,
            image=image,
            model=self.model_spec,
            model_path=model_path,
            hardware=hardware,
            workers=tuple(workers),
        )
        return get_engine(self.engine).resolve(spec)

    def online(self, spec: DeploymentSpec) -> DeploymentSpec:
        """``spec`` with its experts rebalanced while it serves."""
        iterations = self.rebalance_iterations
        knobs = {w.role: w.knobs.changed(eplb="online", eplb_rebalance_iterations=iterations) for w in spec.workers}
        return spec.with_knobs(spec.name, knobs)

    def recorded(self, spec: DeploymentSpec) -> DeploymentSpec:
        """``spec`` with the recorder that was asked for."""
        return spec.changed(record_experts=self.recorder, recorded_passes=self.recorded_passes)


#: Params by the place of a value in what is made of them, where the two are not called alike.
_PARAM_OF: dict[tuple[Any, ...], str] = {
    ("Slo", "ttft_p99_ms"): "slo_ttft_p99_ms",
    ("Slo", "tpot_p99_ms"): "slo_tpot_p99_ms",
    ("SearchSpace", "redundant_slots"): "max_redundant_slots",
    ("SearchSpace", "redundant_slots", 1): "max_redundant_slots",
    ("SearchSpace", "mem_fraction_static"): "max_mem_fraction",
    ("SearchSpace", "mem_fraction_static", 0): "min_mem_fraction",
    ("SearchSpace", "mem_fraction_static", 1): "max_mem_fraction",
    ("SearchSpace", "cuda_graph_max_bs"): "max_graph_bs",
    ("SearchSpace", "cuda_graph_max_bs", 0): "min_graph_bs",
    ("SearchSpace", "cuda_graph_max_bs", 1): "max_graph_bs",
    ("SearchSpace", "chunked_prefill_size"): "prefill_chunks",
}
#: Values that work, of params that are usually empty.
_WORKS = {"prefill_chunks": [8192, 16384]}


def _finding(error: Any, model: str) -> Finding:
    """A pydantic error in the words of a finding."""
    whole = (model, error["loc"][0])
    field = _PARAM_OF.get((model, *error["loc"])) or _PARAM_OF.get(whole) or str(error["loc"][0])
    usual = _WORKS.get(field, DEFAULTS[field])
    suggestion = "Leave it empty for the engine's own choice" if usual is None else f"Use e.g. {usual}"
    return Finding(field=field, value=error["input"], rule=error["msg"], suggestion=suggestion)


def deployment_name(kind: str, run_id: str) -> str:
    """The name of a run's deployment: the same for every retry, different for every run."""
    return f"{kind}-{hashlib.sha256(run_id.encode()).hexdigest()[:10]}"
