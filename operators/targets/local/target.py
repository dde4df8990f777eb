"""The ``local`` target: engines as processes of this host. Its state is described in ``state.py``."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from wideloop.manifests.clients.base import LoadGenerator
from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.diagnosis import Diagnosis
from wideloop.manifests.engines import get_engine
from wideloop.manifests.engines.base import Command, Engine
from wideloop.manifests.errors import TargetBusy, TargetError
from wideloop.manifests.findings import Finding
from wideloop.manifests.telemetry import TelemetrySources
from wideloop.operators.settings import Settings
from wideloop.operators.targets.base import (
    AddedOptions,
    ClientStatus,
    Endpoints,
    Image,
    ImageBuild,
    Owned,
    Owner,
    Rank,
    Status,
    Target,
    Weights,
)
from wideloop.operators.targets.files import write_whole
from wideloop.operators.targets.generation import unanswered
from wideloop.operators.targets.http import request
from wideloop.operators.targets.local import gpus, installed
from wideloop.operators.targets.local.environment import environment_python, prepare_environment
from wideloop.operators.targets.local.launch import HOST, Launch, base_environment
from wideloop.operators.targets.local.model_directory import prepare_model_directory
from wideloop.operators.targets.local.process import end_marked
from wideloop.operators.targets.local.state import Deployment, State

#: Lines of a log that can hold the tracebacks of all ranks.
_WHOLE_TRACEBACK = 600
_LOG_TAIL = 12


class LocalTarget(Target):
    """Runs engines on this host.

    Args:
        settings: where state, environments and models are.
        grace_s: how long a process may take to end when asked politely; None: as the engine says.
        start_timeout_s: how long a deployment may take to answer its first generation; None: as the engine says.
    """

    name = "local"
    patience_s = 30.0
    #: Seconds that a process may be stopped before its deployment counts as failed.
    stopped_patience_s = 20.0

    def __init__(
        self, settings: Settings, *, grace_s: float | None = None, start_timeout_s: float | None = None
    ) -> None:
        super().__init__(settings)
        self._state = State(settings.local)
        self._grace_s = grace_s
        self._start_timeout_s = start_timeout_s

    # ---- image and weights

    def prepare_image(
        self,
        engine: Engine,
        generator: LoadGenerator,
        owner: Owner | None = None,  # noqa: ARG002
        build: ImageBuild | None = None,  # noqa: ARG002
    ) -> Image:
        image = prepare_environment(self._settings, engine.environment, engine.imports)
        client = prepare_environment(self._settings, generator.environment, generator.imports)
        versions = client.versions | image.versions
        return image.changed(versions=versions, reused=image.reused and client.reused)

    def prepare_weights(self, engine: Engine, model: str, owner: Owner | None = None) -> Weights:  # noqa: ARG002
        return prepare_model_directory(self._settings, engine, model)

    # ---- deployments

    def preflight(self, spec: DeploymentSpec, generator: LoadGenerator) -> list[Finding]:
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
        # The load generator's too: without it, what took minutes to start could not be measured.
        needed = (
            ("engine", spec.engine, get_engine(spec.engine).environment),
            ("client", generator.name, generator.environment),
        )
        for field, value, environment in needed:
            try:
                environment_python(self._settings, environment)
            except TargetError as error:
                findings.append(Finding(field=field, value=value, rule=str(error), suggestion="Run wideep_image first"))
        if not findings and not get_engine(spec.engine).simulated:
            findings = self._gpu_findings(spec)
        return findings

    def _gpu_findings(self, spec: DeploymentSpec) -> list[Finding]:
        """What the GPUs and the installed engine say; whether one of our own holds the GPUs is for apply to say."""
        engine = get_engine(spec.engine)
        python = environment_python(self._settings, engine.environment)
        packages = installed.packages(python)
        findings = [f for f in (installed.other_version(spec, python),) if f is not None]
        added = self.added_options(engine)
        findings += installed.missing(spec, python, engine.needs(spec, added.flags))
        findings += engine.option_findings(added.setting, added.flags, spec)
        if self._holding():
            return findings
        return findings + gpus.gpu_findings(spec, gpus.read(), gpus.cuda_of(packages), self._state.pids())

    def added_options(self, engine: Engine) -> AddedOptions:
        variable = f"WIDELOOP_{engine.environment.upper()}_OPTIONS"
        return AddedOptions(variable, self._settings.engine_options(engine.environment))

    def stand_by(self, spec: DeploymentSpec, owner: Owner) -> None:
        with self._state.locked(spec.name):
            if self._state.read(spec.name) is None:
                Launch(self._settings, self._state, spec).stand_by(owner)

    def apply(self, spec: DeploymentSpec, owner: Owner) -> None:
        with self._state.locked(spec.name):
            if self._runs(spec):
                return
            launch = Launch(self._settings, self._state, spec)
            if launch.standby is None:
                self._remove(spec.name)
            try:
                # The lock is held from the check to the start; otherwise two processes would both see a free host.
                with self._state.all_locked():
                    self._require_room(spec.name)
                    launch.start(owner)
            except BaseException as error:
                self._remove(spec.name)
                if isinstance(error, OSError):
                    raise TargetError(f"{spec.name} could not be started: {error}") from error
                raise

    def _remove(self, name: str) -> None:
        deployment = self._state.read(name)
        engine = get_engine(deployment.spec.engine) if deployment else None
        self._state.remove(name, self._grace(engine))
        if deployment and engine and not engine.simulated and not deployment.standby:
            gpus.wait_until_free(deployment.spec.gpus, self._state.pids())

    def _grace(self, engine: Engine | None = None) -> float:
        if self._grace_s is not None:
            return self._grace_s
        return engine.stop_grace_s if engine else Engine.stop_grace_s

    def _require_room(self, name: str) -> None:
        """Refuse when others hold all this host has. One whose processes are all dead holds nothing."""
        holding = [other for other in self._holding() if other != name]
        if len(holding) < self._settings.local_deployments:
            return
        holder = self._state.read(holding[0])
        owner = holder.owner if holder else None
        run = f"{owner.dag_id}/{owner.run_id}" if owner else None
        raise TargetBusy(holding[0], run, owner.keep_until if owner else None)

    def _holding(self) -> list[str]:
        """The deployments that hold accelerators."""
        waiting = {d.spec.name for d in self._state.deployments() if d.standby}
        return sorted(self._state.alive() - waiting)

    def _runs(self, spec: DeploymentSpec) -> bool:
        deployment = self._state.read(spec.name)
        if deployment is None or deployment.spec != spec or deployment.standby:
            return False
        return all(self._state.component(spec.name, c.name).alive() for c in get_engine(spec.engine).components(spec))

    def status(self, name: str) -> Status:
        deployment = self._state.read(name)
        if deployment is None:
            return Status(state="absent", reason=f"there is no deployment {name}")
        if deployment.standby:
            return Status(state="absent", reason=f"{name} stands by and was not applied yet")
        dead = self._dead(deployment) or self._stopped(deployment)
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
        patience = self._start_timeout_s or get_engine(deployment.spec.engine).start_timeout_s
        if age < patience:
            return Status(state="pending", reason=answer)
        front = next(c for c, ports in deployment.ports.items() if "http" in ports)
        late = Diagnosis(
            kind="timed_out",
            component=front,
            message=f"no generation was answered within {patience:.0f} s: {answer}",
            action="read the components' logs",
            log_tail=self.logs(name, front, _LOG_TAIL),
        )
        return Status(state="failed", reason=late.message, diagnosis=late)

    def _dead(self, deployment: Deployment) -> Diagnosis | None:
        """The diagnosis of a component that has ended, or will; the cause wins over what came of it."""
        spec = deployment.spec
        engine = get_engine(spec.engine)
        diagnoses = []
        for component in engine.components(spec):
            process = self._state.component(spec.name, component.name)
            if not process.alive() or engine.will_die(process.tail(_LOG_TAIL)):
                diagnoses.append(engine.diagnose(component, process.tail(_WHOLE_TRACEBACK), process.exit_code()))
        return min(diagnoses, key=lambda diagnosis: diagnosis.doubt, default=None)

    def _stopped(self, deployment: Deployment) -> Diagnosis | None:
        """The diagnosis of a component that was stopped for longer than its clients wait for it."""
        for component in get_engine(deployment.spec.engine).components(deployment.spec):
            process = self._state.component(deployment.spec.name, component.name)
            note = process.folder / "stopped"
            pids = process.stopped()
            if not pids:
                note.unlink(missing_ok=True)
                continue
            if not note.exists():
                write_whole(note, str(time.time()))
            seconds = time.time() - float(note.read_text())
            if seconds >= self.stopped_patience_s:
                return Diagnosis(
                    kind="timed_out",
                    component=component.name,
                    message=f"it has been stopped (SIGSTOP) for {seconds:.0f} s and answers nothing",
                    action=f"Continue it with `kill -CONT {' '.join(map(str, pids))}`, or find what stops processes",
                    log_tail=process.tail(_LOG_TAIL),
                )
        return None

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
        return request(self._servers(name, component)[0] + path, method=method, body=body, timeout_s=timeout_s)

    def call_all(
        self,
        name: str,
        component: str,
        path: str,
        *,
        method: Literal["GET", "POST"] = "POST",
        body: dict[str, Any] | None = None,
        timeout_s: float = 30.0,
    ) -> tuple[str, ...]:
        urls = self._servers(name, component)
        return tuple(request(url + path, method=method, body=body, timeout_s=timeout_s) for url in urls)

    def _servers(self, name: str, component: str) -> tuple[str, ...]:
        """The URLs at which a component takes requests."""
        endpoints = self.endpoints(name)
        urls = (endpoints.frontend,) if component == "frontend" else endpoints.control.get(component)
        if not urls:
            names = ", ".join(("frontend", *endpoints.control))
            raise TargetError(f"{name} has no component {component!r} to call; it has {names}")
        return urls

    def spec(self, name: str) -> DeploymentSpec:
        return self._require(name).spec

    def endpoints(self, name: str) -> Endpoints:
        ports = self._require(name).ports
        front = next(c for c, p in ports.items() if "http" in p)
        control = {c: _control_ports(p) for c, p in ports.items() if c != "frontend"}
        return Endpoints(
            frontend=_url(ports[front]["http"]),
            control={c: tuple(map(_url, numbers)) for c, numbers in control.items() if numbers},
        )

    def logs(self, name: str, component: str, lines: int = 50) -> tuple[str, ...]:
        return self._state.component(name, component).tail(lines)

    def whole_log(self, name: str, rank: Rank, size: int) -> bytes:
        return self._state.component(name, rank.component).first_and_last(size)

    def manifest(self, name: str) -> str:
        """The command lines as they were started, by component."""
        import yaml

        deployment = self._require(name)
        commands = Launch(self._settings, self._state, deployment.spec).commands(deployment)
        return yaml.safe_dump({c: {"argv": list(x.argv), "env": x.env} for c, x in commands.items()}, sort_keys=False)

    def recordings(self, name: str, component: str) -> list[Path]:
        recorder = get_engine(self.spec(name).engine).recorder
        if recorder is None:
            return []
        folder = self._state.component(name, component).folder
        return sorted(folder.rglob(recorder.files), key=lambda p: p.stat().st_mtime)

    def telemetry(self, name: str) -> TelemetrySources:
        """This host's GPUs by NVML, unless a DCGM exporter is named; and the pages of the exporters that are."""
        named = self._settings.telemetry.sources(hosts=(HOST,))
        uuids = tuple(gpu.uuid for gpu in gpus.read()[: self.spec(name).gpus])
        return named.changed(gpus=uuids, nvml=bool(uuids) and not named.dcgm)

    def delete(self, name: str) -> None:
        with self._state.locked(name):
            self._remove(name)

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
            end_marked(process.folder, self._grace())
            shutil.rmtree(process.folder, ignore_errors=True)
            self.client_dir(name, client)
            process.start(command.argv, {**base_environment(), **path, **command.env})

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

    def collect(self, name: str, client: str, suffixes: Sequence[str] = ()) -> Path:  # noqa: ARG002
        return Path(self.client_dir(name, client))

    def stop_client(self, name: str, client: str) -> None:
        folder = self._state.client(name, client).folder
        end_marked(folder, self._grace())
        shutil.rmtree(folder, ignore_errors=True)

    def _require(self, name: str) -> Deployment:
        deployment = self._state.read(name)
        if deployment is None:
            raise TargetError(f"there is no deployment {name} on this host")
        return deployment


def _control_ports(ports: Mapping[str, int]) -> list[int]:
    """Numbers of the ports ``control``, ``control-1``, ...; a server that is frontend and worker has ``http`` only."""
    numbers = [number for name, number in ports.items() if name.partition("-")[0] == "control"]
    return numbers or [number for name, number in ports.items() if name == "http"]


def _url(port: int) -> str:
    return f"http://{HOST}:{port}"
