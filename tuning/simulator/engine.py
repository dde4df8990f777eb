"""The simulated engine: the real Dynamo frontend, and Dynamo mockers timed by the models of this package."""

from __future__ import annotations

from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.engines.base import Command, Component, Site
from wideloop.manifests.engines.sglang_family import SglangFamily
from wideloop.manifests.findings import Finding

#: "system" is the mocker's own HTTP server; Dynamo 1.6 reads its number as 16 bits with sign: at most 32767.
_PORTS = {
    "prefill": ("system", "control", "bootstrap"),
    "decode": ("system", "control"),
    "aggregated": ("system", "control"),
}


class SimulatedEngine(SglangFamily):
    """Real HTTP, routing, scheduling and KV accounting; memory, timing and expert routing are models."""

    name = "simulated"
    runtime = "dynamo"
    simulated = True
    #: It uses no GPU: the models only read the figures of the profile's GPUs.
    vendors = ("nvidia", "amd")
    environment = "simulated"
    imports = ("dynamo.frontend", "dynamo.mocker", "numpy", "tokenizers", "wideloop.tuning.simulator.worker")
    needs_weights = False

    def components(self, spec: DeploymentSpec) -> tuple[Component, ...]:
        workers = tuple(
            Component(name=f"{w.role}-{i}", role=w.role, ordinal=i, ports=_PORTS[w.role])
            for w in spec.workers
            for i in range(w.replicas)
        )
        return (Component(name="frontend", role="frontend", ports=("http",)), *workers)

    def command(self, spec: DeploymentSpec, component: Component, site: Site) -> Command:  # noqa: ARG002
        env = {
            "DYN_DISCOVERY_BACKEND": "file",
            "DYN_FILE_KV": f"{site.shared_dir}/kv",
            "DYN_REQUEST_PLANE": "tcp",
            "DYN_EVENT_PLANE": "zmq",
            "DYN_LOG": "warn",
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
        }
        if component.role == "frontend":
            options = {"--host": site.host, "--port": site.ports["http"], "--shared-dir": site.shared_dir}
            # The frontend keeps copies of model files below its home directory, which is removed with the deployment.
            return _command(site, "wideloop.tuning.simulator.frontend", options, {**env, "HOME": site.shared_dir})
        worker_options: dict[str, object] = {
            "--spec": site.spec_file,
            "--role": component.role,
            "--model-path": site.model_path,
            "--work-dir": site.work_dir,
            "--shared-dir": site.shared_dir,
            "--host": site.host,
            "--system-port": site.ports["system"],
            "--control-port": site.ports["control"],
        }
        if "bootstrap" in site.ports:
            worker_options["--bootstrap-port"] = site.ports["bootstrap"]
        return _command(site, "wideloop.tuning.simulator.worker", worker_options, env)

    def make_model(self, python: str, config_file: str, out_dir: str) -> Command | None:
        module = "wideloop.tuning.simulator.model_dir"
        return Command(argv=(python, "-m", module, "--config", config_file, "--out", out_dir))

    def validate(self, spec: DeploymentSpec) -> list[Finding]:
        findings = super().validate(spec)
        if spec.record_experts in ("per_token", "stat_approx"):
            rule = "only the recorder's modes 'stat' and 'per_pass' are simulated"
            findings.append(Finding(field="recorder", value=spec.record_experts, rule=rule, suggestion="Use 'stat'"))
        return findings


def _command(site: Site, module: str, options: dict[str, object], env: dict[str, str]) -> Command:
    arguments = (part for key, value in options.items() for part in (key, str(value)))
    return Command(argv=(site.python, "-m", module, *arguments), env=env)
