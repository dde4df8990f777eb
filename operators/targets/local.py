"""The ``local`` target: engines as processes of this host.

State is a folder per deployment, so that any process can pick up where another died::

    <home>/local/<deployment>/
        deployment.json            spec, owner, ports; written before the first process starts
        ready                      present once a real generation was answered
        shared/                    what the components share (service discovery)
        components/<component>/    process.json, exit, log, and the component's own files
        clients/<client>/          the same for load generators
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from manifests.deployment import DeploymentSpec
from manifests.diagnosis import Diagnosis
from manifests.engines import engine
from manifests.engines.base import Command, Component, Engine, Site
from manifests.errors import TargetError
from manifests.findings import Finding
from operators.settings import Settings
from operators.targets.base import ClientStatus, Endpoints, Image, Owned, Owner, Status, Target, Weights
from operators.targets.environment import environment_python, prepare_environment
from operators.targets.model_directory import prepare_model_directory
from operators.targets.ports import free_ports
from operators.targets.process import ProcessRecord, end_marked, marked

_HOST = "127.0.0.1"
#: What of this process's environment an engine or client may see: no credentials of Airflow's.
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "HF_HOME")
_LOG_TAIL = 12


class Deployment(BaseModel):
    """What ``deployment.json`` holds."""

    model_config = ConfigDict(frozen=True)

    spec: DeploymentSpec
    owner: Owner
    created_at: datetime
    ports: dict[str, dict[str, int]]


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
        self._root = settings.local
        self._grace_s = grace_s
        self._start_timeout_s = start_timeout_s

    # ---- image and weights

    def prepare_image(self, engine: Engine) -> Image:
        return prepare_environment(self._settings, engine)

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
        try:
            environment_python(self._settings, engine(spec.engine).environment)
        except TargetError as error:
            findings.append(
                Finding(field="engine", value=spec.engine, rule=str(error), suggestion="Run wideep_image first")
            )
        return findings

    def apply(self, spec: DeploymentSpec, owner: Owner) -> None:
        with self._locked(spec.name):
            if self._runs(spec):
                return
            self._remove(spec.name)
            try:
                self._start(spec, owner)
            except BaseException as error:
                self._remove(spec.name)
                if isinstance(error, OSError):
                    raise TargetError(f"{spec.name} could not be started: {error}") from error
                raise

    def _runs(self, spec: DeploymentSpec) -> bool:
        deployment = self._read(spec.name)
        if deployment is None or deployment.spec != spec:
            return False
        return all(self._process(spec.name, c).alive() for c in engine(spec.engine).components(spec))

    def _start(self, spec: DeploymentSpec, owner: Owner) -> None:
        serving = engine(spec.engine)
        components = serving.components(spec)
        folder = self._folder(spec.name)
        (folder / "shared").mkdir(parents=True)
        deployment = Deployment(spec=spec, owner=owner, created_at=datetime.now(UTC), ports=self._ports(components))
        spec_file = folder / "spec.json"
        spec_file.write_text(spec.model_dump_json())
        # Written before anything runs: whatever happens next, the janitor knows whose it is.
        _write(folder / "deployment.json", deployment.model_dump_json())
        python = environment_python(self._settings, serving.environment)
        for component in components:
            process = self._process(spec.name, component)
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
        taken = {p for d in self._deployments() for ports in d.ports.values() for p in ports.values()}
        free = iter(free_ports(sum(len(c.ports) for c in components), taken, _HOST))
        return {c.name: {port: next(free) for port in c.ports} for c in components}

    def status(self, name: str) -> Status:
        deployment = self._read(name)
        if deployment is None:
            return Status(state="absent", reason=f"there is no deployment {name}")
        dead = self._dead(deployment)
        if dead is not None:
            return Status(state="failed", reason=dead.message, diagnosis=dead)
        ready = self._folder(name) / "ready"
        if ready.exists():
            return Status(state="ready", start_seconds=float(ready.read_text()))
        answer = self._generate(deployment)
        if answer is None:
            seconds = (datetime.now(UTC) - deployment.created_at).total_seconds()
            _write(ready, str(seconds))
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
            process = self._process(spec.name, component)
            if not process.alive():
                diagnosis = serving.diagnose(component, process.tail(200), process.exit_code())
                if diagnosis.kind != "crashed":
                    return diagnosis
                found = found or diagnosis
        return found

    def _generate(self, deployment: Deployment) -> str | None:
        """Ask for two tokens; None when they came, else what happened instead."""
        spec = deployment.spec
        body = {"model": spec.model.name, "max_tokens": 2, "messages": [{"role": "user", "content": "Are you ready?"}]}
        url = self.endpoints(spec.name).frontend + engine(spec.engine).generate_path
        request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                answer = json.load(response)
        except (OSError, ValueError) as error:
            return f"{url} does not answer yet ({error})"
        if not answer.get("choices") or not (answer.get("usage") or {}).get("completion_tokens"):
            return "the frontend answered without a token"
        return None

    def spec(self, name: str) -> DeploymentSpec:
        return self._require(name).spec

    def endpoints(self, name: str) -> Endpoints:
        ports = self._require(name).ports
        return Endpoints(
            frontend=f"http://{_HOST}:{ports['frontend']['http']}",
            control={c: f"http://{_HOST}:{p['control']}" for c, p in ports.items() if "control" in p},
        )

    def logs(self, name: str, component: str, lines: int = 50) -> tuple[str, ...]:
        return ProcessRecord(self._folder(name) / "components" / component).tail(lines)

    def recordings(self, name: str, component: str) -> list[Path]:
        folder = self._folder(name) / "components" / component
        return sorted(folder.rglob("expert_distribution_recorder_*.pt"), key=lambda p: p.stat().st_mtime)

    def delete(self, name: str) -> None:
        with self._locked(name):
            self._remove(name)

    def list_owned(self) -> list[Owned]:
        # Processes first: whatever comes up from now on has its description before its first process.
        found = {mark.relative_to(self._root).parts[0] for _, mark in marked(self._root)}
        found |= {p.name for p in self._root.glob("[!.]*") if p.is_dir()}
        described = {d.spec.name: d for d in self._deployments()}
        owned = [Owned(name=n, owner=d.owner, created_at=d.created_at) for n, d in described.items()]
        # What nobody describes is a leftover, unless somebody is replacing it right now and holds its lock.
        for name in sorted(found - described.keys()):
            with self._locked(name):
                lost = self._read(name) is None
            if lost:
                owned.append(Owned(name=name, owner=None, created_at=None))
        return owned

    # ---- clients

    def client_dir(self, name: str, client: str) -> str:
        folder = self._folder(name) / "clients" / client / "out"
        folder.mkdir(parents=True, exist_ok=True)
        return str(folder)

    @property
    def client_cache_dir(self) -> str:
        return str(self._settings.home / "client-cache")

    def run_client(self, name: str, client: str, command: Command, environment: str) -> None:
        self._require(name)
        process = self._client(name, client)
        python = environment_python(self._settings, environment)
        path = {"PATH": f"{python.parent}{os.pathsep}{os.environ.get('PATH', '')}"}
        with self._locked(name):
            if process.started is not None:
                return
            # An earlier starter may have died before it could leave a record of what it started.
            end_marked(process.folder, self._grace_s)
            shutil.rmtree(process.folder, ignore_errors=True)
            self.client_dir(name, client)
            process.start(command.argv, {**_base_environment(), **path, **command.env})

    def client_status(self, name: str, client: str) -> ClientStatus:
        process = self._client(name, client)
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
        folder = self._client(name, client).folder
        end_marked(folder, self._grace_s)
        shutil.rmtree(folder, ignore_errors=True)

    # ---- the state folder

    def _folder(self, name: str) -> Path:
        return self._root / name

    def _process(self, name: str, component: Component) -> ProcessRecord:
        return ProcessRecord(self._folder(name) / "components" / component.name)

    def _client(self, name: str, client: str) -> ProcessRecord:
        return ProcessRecord(self._folder(name) / "clients" / client)

    def _read(self, name: str) -> Deployment | None:
        """The description of a deployment; None when there is none, or another version wrote it."""
        try:
            return Deployment.model_validate_json((self._folder(name) / "deployment.json").read_text())
        except (OSError, ValidationError):
            return None

    def _require(self, name: str) -> Deployment:
        deployment = self._read(name)
        if deployment is None:
            raise TargetError(f"there is no deployment {name} on this host")
        return deployment

    def _deployments(self) -> list[Deployment]:
        folders = sorted(p.parent.name for p in self._root.glob("*/deployment.json"))
        return [d for name in folders if (d := self._read(name)) is not None]

    def _remove(self, name: str) -> None:
        folder = self._folder(name)
        end_marked(folder, self._grace_s)
        # The description goes last: until then the janitor can find what is left.
        for entry in folder.glob("*"):
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        """One change of a deployment at a time, across processes."""
        locks = self._root / ".locks"
        locks.mkdir(parents=True, exist_ok=True)
        with (locks / name).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _base_environment() -> dict[str, str]:
    return {k: os.environ[k] for k in _INHERITED if k in os.environ} | {"PYTHONUNBUFFERED": "1"}


def _write(path: Path, text: str) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text)
    temporary.replace(path)
