"""SGLang as servers on one host: a single aggregated server, or prefill and decode servers behind SGLang's router."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from wideloop import manifests
from wideloop.manifests.deployment import DeploymentSpec, WorkerSpec
from wideloop.manifests.engine_side.random_model import KEY
from wideloop.manifests.engines import (
    sglang_checks,
    sglang_disaggregation,
    sglang_failures,
    sglang_flags,
)
from wideloop.manifests.engines.base import Command, Component, Need, Site
from wideloop.manifests.engines.sglang_family import SglangFamily
from wideloop.manifests.engines.sglang_versions import DEFAULT_VERSION
from wideloop.manifests.findings import Finding
from wideloop.manifests.kernels import worker_kernel

_SERVER = "wideloop.manifests.engine_side.sglang_server"
#: Replaces the model classes that would ignore a placement, and gives random weights hot experts.
_MODELS = "wideloop.manifests.engine_side.sglang_models"
#: Architectures that :data:`_MODELS` repairs.
REPAIRED = ("DeepseekV3ForCausalLM", "Qwen3MoeForCausalLM")
_HANDOVER = "handover.json"


class SglangEngine(SglangFamily):
    """Real workers on the GPUs of a host that has SGLang installed."""

    name = "sglang"
    runtime = "native"
    default_version = DEFAULT_VERSION
    simulated = False
    environment = "sglang"
    imports = ("sglang", "sgl_kernel", "torch")
    #: A checkpoint of 700 GB is read for a quarter of an hour.
    start_timeout_s = 1800.0
    #: SGLang's shutdown drains requests for six seconds; no request is running when the target ends it.
    stop_grace_s = 2.0

    def components(self, spec: DeploymentSpec) -> tuple[Component, ...]:
        """One server that clients send requests to, or the router and the servers behind it."""
        if not _disaggregated(spec):
            return tuple(
                Component(name=f"{w.role}-0", role=w.role, ports=("http",), gpus=w.layout.gpus) for w in spec.workers
            )
        return (sglang_disaggregation.ROUTER, *_servers(spec))

    def command(self, spec: DeploymentSpec, component: Component, site: Site) -> Command:
        if component.role == "frontend":
            return sglang_disaggregation.router(_servers(spec), site)
        worker = spec.worker(component.role)  # type: ignore[arg-type]
        version = spec.engine_version or self.default_version
        flags = (
            *sglang_flags.replaceable_args(spec, worker),
            *sglang_disaggregation.replaceable_args(worker),
            *site.options,
            *worker.options,
            *sglang_flags.server_args(spec, worker, model_path=site.model_path, version=version),
            *sglang_disaggregation.server_args(worker, site),
            *("--host", site.host, "--port", str(_port(site)), "--enable-metrics"),
            *(("--load-format", "dummy") if site.random_weights else ()),
        )
        ours = ("serve", *_kernel(spec, worker, version, site), "--", *flags)
        recordings = sglang_flags.env(spec, worker, recordings_dir=site.work_dir)
        meeting = sglang_disaggregation.server_env(worker, site)
        return Command(argv=(site.python, "-m", _SERVER, *ours), env={**_ENV, **recordings, **meeting})

    def standby(self, spec: DeploymentSpec, component: Component, site: Site) -> Command | None:
        if component.role == "frontend":
            return None  # The router starts within a second.
        worker = spec.worker(component.role)  # type: ignore[arg-type]
        processes = str(worker.layout.tp + 1)  # One for each GPU, and one that turns tokens into text.
        handover = f"{site.work_dir}/{_HANDOVER}"
        argv = (site.python, "-m", _SERVER, "standby", handover, "--processes", processes)
        return Command(argv=argv, env=_ENV)

    def hand_over(self, site: Site, command: Command) -> tuple[str, str]:
        return f"{site.work_dir}/{_HANDOVER}", command.model_dump_json()

    def needs(self, spec: DeploymentSpec, options: Sequence[str]) -> tuple[Need, ...]:
        return sglang_disaggregation.needs(options) if _disaggregated(spec) else ()

    def make_model(self, python: str, config_file: str, out_dir: str) -> Command | None:
        if KEY not in json.loads(Path(config_file).read_text()):
            return None
        argv = (python, "-m", "wideloop.manifests.engine_side.random_model", "--config", config_file, "--out", out_dir)
        return Command(argv=argv, env=_ENV)

    def validate(self, spec: DeploymentSpec) -> list[Finding]:
        return [*_one_host(spec), *super().validate(spec), *sglang_checks.sglang_findings(spec, repaired=REPAIRED)]

    def will_die(self, log: Sequence[str]) -> bool:
        return sglang_failures.will_die(log)


#: ``wideloop.manifests.engine_side`` must be importable in the engine's Python, where this project is not installed.
_ENV = {
    "PYTHONPATH": str(Path(manifests.__file__).parents[2]),
    "SGLANG_EXTERNAL_MODEL_PACKAGE": _MODELS,
    "HF_HUB_OFFLINE": "1",
}


def _kernel(spec: DeploymentSpec, worker: WorkerSpec, version: str, site: Site) -> tuple[str, ...]:
    """Flags that have the server use the nearest tuned kernel, where its number of local experts has none."""
    kernel = worker_kernel(spec.model, spec.hardware.gpu, worker, version)
    if kernel.state != "default":
        return ()
    return ("--kernel-file", kernel.file, "--kernel-dir", f"{site.work_dir}/kernels")


def _disaggregated(spec: DeploymentSpec) -> bool:
    return any(w.role != "aggregated" for w in spec.workers)


def _servers(spec: DeploymentSpec) -> tuple[Component, ...]:
    """The servers behind the router, each with GPUs of its own."""
    return tuple(
        Component(
            name=f"{w.role}-{i}",
            role=w.role,
            ordinal=i,
            ports=sglang_disaggregation.ports(w),
            gpus=w.layout.gpus,
        )
        for w in spec.workers
        for i in range(w.replicas)
    )


def _port(site: Site) -> int:
    """The port a server listens on: ``http`` for clients when it stands alone, ``control`` behind the router."""
    return site.ports.get("http") or site.ports["control"]


def _one_host(spec: DeploymentSpec) -> list[Finding]:
    """Errors where a deployment needs a second host, or several servers without a router in front of them."""
    findings = [*sglang_disaggregation.missing_half_findings(spec.workers)]
    if spec.hardware.nodes > 1:
        findings.append(
            Finding(
                field="hardware",
                value=spec.hardware.name,
                rule=f"its workers are on {spec.hardware.nodes} hosts, and engine sglang runs on one",
                suggestion="Use a profile of one node, e.g. h200-8, or engine dynamo-sglang on a cluster",
            )
        )
    several = [(f"{w.role}.nodes", w.layout.nodes, "engine sglang runs on one host") for w in spec.workers]
    if not _disaggregated(spec):
        alone = "a server that prefills and decodes has no router in front of it"
        several += [(f"{w.role}.replicas", w.replicas, alone) for w in spec.workers]
    use = "Use 1, or engine dynamo-sglang on a cluster"
    findings += [Finding(field=f, value=n, rule=rule, suggestion=use) for f, n, rule in several if n > 1]
    return findings
