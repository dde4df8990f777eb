"""An engine of two small real processes: a frontend that answers generations, and a worker that just runs.

What they do is written in a file of their model directory, so that processes started from anywhere do the same.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from wideloop.manifests import profiles
from wideloop.manifests.deployment import DeploymentSpec, WorkerSpec
from wideloop.manifests.diagnosis import Diagnosis
from wideloop.manifests.engines import ENGINES, sglang_defaults
from wideloop.manifests.engines.base import Command, Component, Engine, Site
from wideloop.manifests.engines.sglang_recorder import sglang_recorder
from wideloop.manifests.findings import Finding
from wideloop.operators.settings import Settings

_WORKER = Path(__file__).with_name("fake_worker.py")


class FakeEngine(Engine):
    name = "fake"
    runtime = "native"
    simulated = True
    environment = "fake"
    imports = ("json",)
    needs_weights = False
    recorder = sglang_recorder()

    def components(self, spec: DeploymentSpec) -> tuple[Component, ...]:
        workers = tuple(Component(name=f"{w.role}-0", role=w.role, ports=("control",)) for w in spec.workers)
        return (Component(name="frontend", role="frontend", ports=("http",)), *workers)

    def command(self, spec: DeploymentSpec, component: Component, site: Site) -> Command:
        port = next(iter(site.ports.values()))
        argv = (site.python, "-I", "-S", str(_WORKER), component.name, str(port), site.model_path)
        return Command(argv=argv, env={"OF_THE_ENGINE": "yes"})

    def resolve(self, spec: DeploymentSpec) -> DeploymentSpec:
        return spec

    def validate(self, spec: DeploymentSpec) -> list[Finding]:
        return []

    def diagnose(self, component: Component, log: Sequence[str], exit_code: int | None) -> Diagnosis:
        kind = "out_of_memory" if any("out of memory" in line for line in log) else "crashed"
        message = f"{component.name} ended with {exit_code}"
        return Diagnosis(
            kind=kind, component=component.name, message=message, action="fix it", log_tail=tuple(log[-3:])
        )


def register() -> None:
    ENGINES.register("fake")(FakeEngine)


def environment(settings: Settings, name: str = "fake") -> None:
    """An environment that was built: an interpreter."""
    python = settings.environments / name / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(Path(sys.executable).resolve())


def model(folder: Path, **behaviour: str) -> Path:
    """A model directory that says what each component does: ``answer`` (default), ``mute``, ``refuse``,
    ``tokenless``, ``die``, ``out-of-memory``; ``after`` is the number of seconds until it dies."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    (folder / "behaviour.json").write_text(json.dumps({k.replace("_", "-"): v for k, v in behaviour.items()}))
    return folder


def spec(name: str, model_path: Path, redundant: int = 0) -> DeploymentSpec:
    hardware = profiles.hardware("l4-8")
    worker = WorkerSpec(role="decode", layout=hardware.workers["decode"])
    knobs = sglang_defaults.resolve(hardware.gpu, worker).model_copy(update={"redundant_experts": redundant})
    worker = worker.model_copy(update={"knobs": knobs})
    return DeploymentSpec(
        name=name,
        target="local",
        engine="fake",
        image="sha256:0",
        model=profiles.model("Qwen3-30B-A3B-FP8"),
        model_path=str(model_path),
        hardware=hardware,
        workers=(worker,),
    )
