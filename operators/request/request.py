"""What a DAG run was asked to do, from the flat params of its trigger form to specs.

Building a request is cheap and pure, so every task does it for itself; XCom carries only what tasks
found out (an image digest, a model path, a trial's number).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Literal

from wideloop.manifests import profiles
from wideloop.manifests.clients import get_load_generator
from wideloop.manifests.clients.base import LoadGenerator
from wideloop.manifests.deployment import DeploymentSpec, Knobs, RecorderMode, WorkerSpec
from wideloop.manifests.engines import get_engine
from wideloop.manifests.errors import Refused
from wideloop.manifests.findings import Finding
from wideloop.manifests.frozen import Frozen
from wideloop.manifests.hardware import HardwareProfile
from wideloop.manifests.model import ModelSpec
from wideloop.manifests.parameters import parse_all
from wideloop.manifests.workload import Slo, Workload
from wideloop.operators.request import engine_knobs
from wideloop.operators.request.parameters import KNOBS, RUN_OPTIONS, defaults, request_parameters
from wideloop.operators.request.placing import why_not_placed
from wideloop.operators.settings import settings
from wideloop.tuning.space import SearchSpace

#: Placeholder in specs that are only judged, before an image or a model cache exists.
UNKNOWN = "unknown"


#: What a trigger form starts with; a DAG that lacks a field uses the same.
DEFAULTS = defaults()


class Request(Frozen):
    """What one DAG run was asked for. Fields are named as the parameters are, or group some of them."""

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
    eplb_rebalance_iterations: int
    space: SearchSpace
    trials: int
    min_repeats: int
    repeats: int
    seed: int
    max_gpu_hours: float | None = None
    max_hours: float | None = None
    least_gain: float = 0.0
    accept: tuple[str, ...] = ()
    role_knobs: dict[str, dict[str, Any]] = {}
    role_options: dict[str, tuple[str, ...]] = {}

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Request:
        """Read the params of a DAG run; those that are options of the run are checked and left aside.

        Raises:
            Refused: there is no such parameter or load generator, or a value is outside what it takes.
        """
        return cls.from_values(parse_all((*request_parameters(), *RUN_OPTIONS), params))

    @classmethod
    def from_file(cls, params: Any) -> Request:
        """Read a request file, which has no options of a run.

        Raises:
            Refused: as :meth:`from_params`; or it is no JSON object.
        """
        if not isinstance(params, dict):
            rule = "is no JSON object of parameters"
            raise Refused([Finding(field="request", value=params, rule=rule, suggestion='Use e.g. {"trials": 8}')])
        return cls.from_values(parse_all(request_parameters(), params))

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Request:
        """A request of parsed parameters."""
        same = ("target", "engine", "model", "hardware", "recorder", "recorded_passes", "eplb",
                "eplb_rebalance_iterations", "trials", "min_repeats", "repeats", "seed",
                "max_gpu_hours", "max_hours", "least_gain", "accept")  # fmt: skip
        load = ("isl", "osl", "requests_per_slot", "warmup_requests", "seed")
        return cls(
            **{name: values[name] for name in same},
            engine_version=values["engine_version"] or None,
            workload=Workload(
                concurrency=tuple(sorted(values["concurrency"])),
                client=values["client"],
                client_version=get_load_generator(values["client"]).version,
                **{name: values[name] for name in load},
            ),
            slo=Slo(ttft_p99_ms=values["slo_ttft_p99_ms"], tpot_p99_ms=values["slo_tpot_p99_ms"]),
            knobs=Knobs(**{p.name: values[p.name] for p in KNOBS}),
            space=SearchSpace.asked_for(values),
            role_knobs=engine_knobs.role_knobs(values),
            role_options=engine_knobs.role_options(values),
        )

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
        return is_simulated(self.engine)

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
            worker = WorkerSpec(role=role, layout=layout, replicas=hardware.replicas.get(role, 1), knobs=knobs)
            workers.append(engine_knobs.with_role(worker, self.role_knobs, self.role_options))
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
        iterations = self.eplb_rebalance_iterations
        knobs = {w.role: w.knobs.changed(eplb="online", eplb_rebalance_iterations=iterations) for w in spec.workers}
        return spec.with_knobs(spec.name, knobs)

    def recorded(self, spec: DeploymentSpec) -> DeploymentSpec:
        """``spec`` with the recorder that was asked for; unchanged where no placement can follow from a recording."""
        if why_not_placed(spec) is not None:
            return spec
        return spec.changed(record_experts=self.recorder, recorded_passes=self.recorded_passes)

    def comparable(self, spec: DeploymentSpec) -> DeploymentSpec:
        """``spec`` as both sides of a comparison of experts in order and placed are started."""
        return spec if self.eplb == "online" else get_engine(spec.engine).comparable(spec)


def is_simulated(engine: str) -> bool:
    """Whether results of ``engine`` are marked as simulated: because it is, or because the nodes are stand-ins."""
    return get_engine(engine).simulated or settings().cluster.simulated


def as_stored(request: Mapping[str, Any]) -> dict[str, Any]:
    """A cycle's stored request in today's names, with the fields that its workload did not have then."""
    renamed = {"rebalance_iterations": "eplb_rebalance_iterations"}
    named = {renamed.get(name, name): value for name, value in request.items()}
    return named | {"workload": Workload.model_validate(named["workload"]).model_dump(mode="json")}


def deployment_name(kind: str, run_id: str) -> str:
    """The name of a run's deployment: the same for every retry, different for every run."""
    return f"{kind}-{hashlib.sha256(run_id.encode()).hexdigest()[:10]}"
