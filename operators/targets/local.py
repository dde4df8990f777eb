"""The ``local`` target: engines as processes of this host. Its state is described in ``operators.targets.state``."""

from __future__ import annotations

import os
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from manifests import benchmark
from manifests.deployment import DeploymentSpec
from manifests.diagnosis import Diagnosis
from manifests.engines import engine
from manifests.engines.base import Command, Component, Engine, Site
from manifests.errors import TargetBusy, TargetError
from manifests.findings import Finding
from operators.settings import Settings
from operators.targets.base import ClientStatus, Endpoints, Image, Owned, Owner, Status, Target, Weights
from operators.targets.environment import environment_python, prepare_environment
from operators.targets.files import write_whole
from operators.targets.generation import unanswered
from operators.targets.http import request
from operators.targets.model_directory import prepare_model_directory
from operators.targets.ports import free_ports
from operators.targets.process import end_marked
from operators.targets.state import Deployment, State

_HOST = "127.0.0.1"
#: What of this process's environment an engine or client may see: no credentials of Airflow's.
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "HF_HOME")
_LOG_TAIL = 12


class LocalTarget(Target):
    """Runs engines on this host.

    Args:
        settings: where state, environments and models are.
        grace_s: how long a process may take to end when asked politely.
        start_timeout_s: how long a deployment may take to answer its first generation.
    """

    name = "local"
    patience_s = 30.0

    def __init__(self, settings: Settings, *, grace_s: float = 10.0, start_timeout_s: float = 180.0) -> None:
        self._settings = settings
        self._state = State(settings.local)
        self._grace_s = grace_s
        self._start_timeout_s = start_timeout_s

    # ---- image and weights

    def prepare_image(self, engine: Engine) -> Image:
        image = prepare_environment(self._settings, engine.environment, engine.imports)
        client = prepare_environment(self._settings, benchmark.ENVIRONMENT, benchmark.IMPORTS)
        versions = client.versions | image.versions
        return image.model_copy(update={"versions": versions, "reused": image.reused and client.reused})

    def prepare_weights(self, engine: Engine, model: str) -> Weights:
        return prepare_model_directory(self._settings, engine, model)

    # ---- deployments

    def preflight(self, spec: DeploymentSpec) -> list[Finding]:
        findings = []
        if not (Path(spec.model_path) / "config.json").is_file():
            findings.append(
                Finding(
                    field="model_path",
                    value=spec.model_path,
                    rule="is no directory with a config.json on this host",
                    suggestion="Run wideep_weights, or give the directory that holds the model's files",
                )
            )
        # The client's too: without it, what took minutes to start could not be measured.
        for environment in (engine(spec.engine).environment, benchmark.ENVIRONMENT):
            try:
                environment_python(self._settings, environment)
            except TargetError as error:
                findings.append(
                    Finding(field="engine", value=spec.engine, rule=str(error), suggestion="Run wideep_image first")
                )
        return findings

    def apply(self, spec: DeploymentSpec, owner: Owner) -> None:
        with self._state.locked(spec.name):
            if self._runs(spec):
                return
            self._state.remove(spec.name, self._grace_s)
            try:
                # Between the look and the start nobody else may start, or both would find the host free.
                with self._state.all_locked():
                    self._require_room(spec.name)
                    self._start(spec, owner)
            except BaseException as error:
                self._state.remove(spec.name, self._grace_s)
                if isinstance(error, OSError):
                    raise TargetError(f"{spec.name} could not be started: {error}") from error
                raise

    def _require_room(self, name: str) -> None:
        """Refuse when others hold all this host has. One whose processes are all dead holds nothing."""
        holding = sorted(self._state.alive() - {name})
        if len(holding) < self._settings.local_deployments:
            return
        holder = self._state.read(holding[0])
        owner = holder.owner if holder else None
        run = f"{owner.dag_id}/{owner.run_id}" if owner else None
        raise TargetBusy(holding[0], run, owner.keep_until if owner else None)

    def _runs(self, spec: DeploymentSpec) -> bool:
        deployment = self._state.read(spec.name)
        if deployment is None or deployment.spec != spec:
            return False
        return all(self._state.component(spec.name, c.name).alive() for c in engine(spec.engine).components(spec))

    def _start(self, spec: DeploymentSpec, owner: Owner) -> None:
        serving = engine(spec.engine)
        components = serving.components(spec)
        folder = self._state.folder(spec.name)
        (folder / "shared").mkdir(parents=True)
        deployment = Deployment(spec=spec, owner=owner, created_at=datetime.now(UTC), ports=self._ports(components))
        spec_file = folder / "spec.json"
        spec_file.write_text(spec.model_dump_json())
        # Written before anything runs: whatever happens next, the janitor knows whose it is.
        write_whole(folder / "deployment.json", deployment.model_dump_json())
        python = environment_python(self._settings, serving.environment)
        for component in components:
            process = self._state.component(spec.name, component.name)
            process.folder.mkdir(parents=True)
            site = Site(
                python=str(python),
                host=_HOST,
                ports=deployment.ports[component.name],
                spec_file=str(spec_file),
                work_dir=str(process.folder),
                shared_dir=str(folder / "shared"),
                model_path=spec.model_path,
            )
            command = serving.command(spec, component, site)
            process.start(command.argv, {**_base_environment(), **command.env})

    def _ports(self, components: tuple[Component, ...]) -> dict[str, dict[str, int]]:
        taken = {p for d in self._state.deployments() for ports in d.ports.values() for p in ports.values()}
        free = iter(free_ports(sum(len(c.ports) for c in components), taken, _HOST))
        return {c.name: {port: next(free) for port in c.ports} for c in components}

    def status(self, name: str) -> Status:
        deployment = self._state.read(name)
        if deployment is None:
            return Status(state="absent", reason=f"there is no deployment {name}")
        dead = self._dead(deployment)
        if dead is not None:
            return Status(state="failed", reason=dead.message, diagnosis=dead)
        ready = self._state.folder(name) / "ready"
        if ready.exists():
            return Status(state="ready", start_seconds=float(ready.read_text()))
        answer = unanswered(self, deployment.spec)
        if answer is None:
            seconds = (datetime.now(UTC) - deployment.created_at).total_seconds()
            write_whole(ready, str(seconds))
            return Status(state="ready", start_seconds=seconds)
        age = (datetime.now(UTC) - deployment.created_at).total_seconds()
        if age < self._start_timeout_s:
            return Status(state="pending", reason=answer)
        late = Diagnosis(
            kind="timed_out",
            component="frontend",
            message=f"no generation was answered within {self._start_timeout_s:.0f} s: {answer}",
            action="read the components' logs",
            log_tail=self.logs(name, "frontend", _LOG_TAIL),
        )
        return Status(state="failed", reason=late.message, diagnosis=late)

    def _dead(self, deployment: Deployment) -> Diagnosis | None:
        """The diagnosis of a component that has died; one that says why wins over one that just went along."""
        spec = deployment.spec
        serving = engine(spec.engine)
        found: Diagnosis | None = None
        for component in serving.components(spec):
            process = self._state.component(spec.name, component.name)
            if not process.alive():
                diagnosis = serving.diagnose(component, process.tail(200), process.exit_code())
                if diagnosis.kind != "crashed":
                    return diagnosis
                found = found or diagnosis
        return found

    def call(
        self,
        name: str,
        component: str,
        path: str,
        *,
        method: Literal["GET", "POST"] = "POST",
        body: dict[str, Any] | None = None,
        timeout_s: float = 30.0,
    ) -> str:
        endpoints = self.endpoints(name)
        base = endpoints.frontend if component == "frontend" else endpoints.control.get(component)
        if base is None:
            known = ", ".join(("frontend", *endpoints.control))
            raise TargetError(f"{name} has no component {component!r} to call; it has {known}")
        return request(base + path, method=method, body=body, timeout_s=timeout_s)

    def spec(self, name: str) -> DeploymentSpec:
        return self._require(name).spec

    def endpoints(self, name: str) -> Endpoints:
        ports = self._require(name).ports
        return Endpoints(
            frontend=f"http://{_HOST}:{ports['frontend']['http']}",
            control={c: f"http://{_HOST}:{p['control']}" for c, p in ports.items() if "control" in p},
        )

    def logs(self, name: str, component: str, lines: int = 50) -> tuple[str, ...]:
        return self._state.component(name, component).tail(lines)

    def recordings(self, name: str, component: str) -> list[Path]:
        folder = self._state.component(name, component).folder
        return sorted(folder.rglob("expert_distribution_recorder_*.pt"), key=lambda p: p.stat().st_mtime)

    def delete(self, name: str) -> None:
        with self._state.locked(name):
            self._state.remove(name, self._grace_s)

    def list_owned(self) -> list[Owned]:
        return self._state.owned()

    # ---- clients

    def client_dir(self, name: str, client: str) -> str:
        folder = self._state.client(name, client).folder / "out"
        folder.mkdir(parents=True, exist_ok=True)
        return str(folder)

    @property
    def client_cache_dir(self) -> str:
        return str(self._settings.home / "client-cache")

    def run_client(self, name: str, client: str, command: Command, environment: str) -> None:
        self._require(name)
        process = self._state.client(name, client)
        python = environment_python(self._settings, environment)
        path = {"PATH": f"{python.parent}{os.pathsep}{os.environ.get('PATH', '')}"}
        with self._state.locked(name):
            if process.started is not None:
                return
            # An earlier starter may have died before it could leave a record of what it started.
            end_marked(process.folder, self._grace_s)
            shutil.rmtree(process.folder, ignore_errors=True)
            self.client_dir(name, client)
            process.start(command.argv, {**_base_environment(), **path, **command.env})

    def client_status(self, name: str, client: str) -> ClientStatus:
        process = self._state.client(name, client)
        if process.started is None:
            return ClientStatus(state="absent")
        seconds = (process.ended or time.time()) - process.started
        if process.alive():
            return ClientStatus(state="running", seconds=seconds)
        code = process.exit_code()
        state = "succeeded" if code == 0 else "failed"
        return ClientStatus(state=state, exit_code=code, seconds=seconds, log_tail=process.tail(_LOG_TAIL))

    def collect(self, name: str, client: str) -> Path:
        return Path(self.client_dir(name, client))

    def stop_client(self, name: str, client: str) -> None:
        folder = self._state.client(name, client).folder
        end_marked(folder, self._grace_s)
        shutil.rmtree(folder, ignore_errors=True)

    def _require(self, name: str) -> Deployment:
        deployment = self._state.read(name)
        if deployment is None:
            raise TargetError(f"there is no deployment {name} on this host")
        return deployment


def _base_environment() -> dict[str, str]:
    return {k: os.environ[k] for k in _INHERITED if k in os.environ} | {"PYTHONUNBUFFERED": "1"}
