"""SGLang workers under Dynamo: its frontend in front, prefill and decode (or aggregated) workers behind.

Read in ai-dynamo 1.6.1 (``dynamo/sglang/args.py``, ``backend_args.py``, ``engine_routes.py``). A worker does
not run SGLang's HTTP server: Dynamo's system port exposes flush and recorder below ``/engine/``.
"""

from __future__ import annotations

import json

from wideloop.manifests.deployment import DeploymentSpec, WorkerSpec
from wideloop.manifests.engines import (
    sglang_checks,
    sglang_defaults,
    sglang_disaggregation,
    sglang_flags,
)
from wideloop.manifests.engines.base import Command, Component, Site
from wideloop.manifests.engines.sglang_family import SglangFamily
from wideloop.manifests.engines.sglang_recorder import sglang_recorder
from wideloop.manifests.engines.sglang_versions import DEFAULT_VERSION
from wideloop.manifests.findings import Finding
from wideloop.manifests.kernels import worker_kernel

#: Methods of SGLang's tokenizer manager ("tm") that become routes of the same name.
_ROUTES = (
    "start_expert_distribution_record",
    "stop_expert_distribution_record",
    "dump_expert_distribution_record",
    "flush_cache",
)
_ANY_ADDRESS = "0.0.0.0"


class DynamoSglangEngine(SglangFamily):
    """Real workers on GPUs, for targets that run Dynamo."""

    name = "dynamo-sglang"
    runtime = "dynamo"
    default_version = DEFAULT_VERSION
    simulated = False
    environment = "dynamo-sglang"
    imports = ("deep_ep", "nixl", "sglang", "torch", "dynamo.sglang.main", "dynamo.frontend")
    #: As long as the pods' probes allow.
    start_timeout_s = 7200.0
    flush_path = "/engine/flush_cache"
    recorder = sglang_recorder("/engine")

    def components(self, spec: DeploymentSpec) -> tuple[Component, ...]:
        workers = tuple(
            Component(name=f"{w.role}-{i}", role=w.role, ordinal=i, ports=sglang_disaggregation.ports(w))
            for w in spec.workers
            for i in range(w.replicas)
        )
        return (Component(name="frontend", role="frontend", ports=("http",)), *workers)

    def command(self, spec: DeploymentSpec, component: Component, site: Site) -> Command:
        # The pod has only the image's files: asking the hub for newer ones would cost time, or fail.
        env = {"HF_HUB_OFFLINE": "1"} if site.model_path.startswith("/") else {}
        if component.role == "frontend":
            arguments = ("--http-host", _ANY_ADDRESS, "--http-port", str(site.ports["http"]))
            return Command(argv=(site.python, "-m", "dynamo.frontend", *arguments), env=env)
        worker = next(w for w in spec.workers if w.role == component.role)
        version = spec.engine_version or self.default_version
        return Command(
            argv=(
                *(site.python, "-m", "dynamo.sglang"),
                *sglang_flags.replaceable_args(spec, worker),
                *sglang_disaggregation.replaceable_args(worker),
                *site.options,
                *worker.options,
                *sglang_flags.server_args(spec, worker, model_path=site.model_path, version=version),
                *sglang_disaggregation.server_args(worker, site),
                *("--host", _ANY_ADDRESS, "--enable-metrics"),
                *(part for route in _ROUTES for part in ("--engine-route", f"{route}:tm")),
            ),
            env={
                **env,
                **sglang_flags.env(spec, worker, recordings_dir=site.work_dir),
                **(sglang_flags.kernel_caches(site.cache_dir) if site.cache_dir else {}),
                **_fabric(spec, worker),
                "DYN_SYSTEM_ENABLED": "true",
                "DYN_SYSTEM_PORT": str(site.ports["control"]),
            },
        )

    def flush_call(self, wait_s: int) -> tuple[str, dict[str, object] | None]:
        return self.flush_path, {"timeout_s": wait_s}

    def refusal(self, answer: str) -> str | None:
        """Routes answer with status 200 and a JSON object; ``success`` is false in it when the method failed."""
        try:
            reply = json.loads(answer)
        except ValueError:
            return None
        if isinstance(reply, dict) and reply.get("success") is False:
            return str(reply.get("message") or answer)
        return None

    def resolve(self, spec: DeploymentSpec) -> DeploymentSpec:
        workers = tuple(sglang_defaults.with_deepep(spec, worker) for worker in spec.workers)
        return super().resolve(spec.changed(workers=workers))

    def comparable(self, spec: DeploymentSpec) -> DeploymentSpec:
        """Where placing needs DeepEP, aggregated workers use its normal mode: "auto" cannot be recorded."""

        def changed(worker: WorkerSpec) -> WorkerSpec:
            if worker.role != "aggregated" or not sglang_defaults.tokens_follow_by_deepep(spec, worker):
                return worker
            return worker.changed(knobs=worker.knobs.changed(deepep_mode="normal"))

        return spec.changed(workers=tuple(map(changed, spec.workers)))

    def validate(self, spec: DeploymentSpec) -> list[Finding]:
        findings = [*super().validate(spec), *sglang_checks.sglang_findings(spec)]
        wrong = any(f.severity == "error" for f in findings)
        return findings if wrong else [*findings, *_kernels(spec)]


def _kernels(spec: DeploymentSpec) -> list[Finding]:
    """Warnings for numbers of local experts without a tuned kernel, which cost a third of prefill (measured)."""
    findings = []
    for worker in spec.workers:
        kernel = worker_kernel(spec.model, spec.hardware.gpu, worker, spec.engine_version or DEFAULT_VERSION)
        if kernel.state == "default":
            nearest = f"; tuned are {', '.join(map(str, kernel.nearest[:3]))}" if kernel.nearest else ""
            findings.append(
                Finding(
                    field=f"{worker.role}.redundant_experts",
                    value=worker.knobs.redundant_experts,
                    rule=f"SGLang has no tuned MoE kernel for {kernel.local_experts} local experts{nearest}",
                    suggestion=f"Measure it against another number, or tune {kernel.file}",
                    severity="warning",
                    id="untuned-kernel",
                )
            )
    return findings


def _fabric(spec: DeploymentSpec, worker: WorkerSpec) -> dict[str, str]:
    """In an NVLink domain of several nodes NCCL must be told that memory of other nodes can be mapped."""
    if worker.layout.nodes == 1 or spec.hardware.fabric != "NVLink":
        return {}
    return {"NCCL_MNNVL_ENABLE": "1", "NCCL_CUMEM_ENABLE": "1"}
