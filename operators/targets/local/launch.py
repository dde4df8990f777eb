"""Start the processes of a deployment on this host, at once or in two steps with a standby in between."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.engine_side.random_model import MARKER as RANDOM_WEIGHTS
from wideloop.manifests.engines import get_engine
from wideloop.manifests.engines.base import Command, Component, Engine, Site
from wideloop.operators.settings import Settings
from wideloop.operators.targets.base import Owner
from wideloop.operators.targets.files import write_whole
from wideloop.operators.targets.local import gpus
from wideloop.operators.targets.local.environment import environment_python
from wideloop.operators.targets.local.ports import free_ports
from wideloop.operators.targets.local.process import ProcessRecord
from wideloop.operators.targets.local.state import Deployment, State

HOST = "127.0.0.1"
#: What of this process's environment an engine or client may see: no credentials of Airflow's.
_INHERITED: tuple[str, ...] = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
    "HF_HOME",
)
#: What engines on GPUs see besides: how the host's users set up CUDA, its libraries and their caches.
_INHERITED_ON_GPUS: tuple[str, ...] = (
    "CUDA_",
    "NCCL_",
    "NVSHMEM_",
    "GLOO_",
    "UCX_",
    "TORCH_",
    "PYTORCH_",
    "TRITON_",
    "TVM_FFI_",
)
_INHERITED_ON_GPUS += ("FLASHINFER_", "SGLANG_", "DG_", "OMP_", "NIXL_", "MC_", "MOONCAKE_")
#: Not Mooncake's, but where MinIO's client keeps keys.
_SECRET = "MC_HOST_"


def base_environment(*, gpus: bool = False) -> dict[str, str]:
    """The environment variables that every process of a deployment, and every client, starts from."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _INHERITED or (gpus and name.startswith(_INHERITED_ON_GPUS) and not name.startswith(_SECRET))
    }
    # Processes are found by a mark in their environment. Without SPT_NOENV those that rename themselves by setproctitle
    # (SGLang's ranks and its router) would overwrite it.
    return kept | {"PYTHONUNBUFFERED": "1", "SPT_NOENV": "1"}


class Launch:
    """The launch of one deployment: what its processes are, where they lie, and how each is started.

    Args:
        settings: where environments and models are.
        state: the state folder; the caller holds the lock of this deployment.
        spec: of the deployment.
    """

    def __init__(self, settings: Settings, state: State, spec: DeploymentSpec) -> None:
        self._settings = settings
        self._state = state
        self._spec = spec

    @cached_property
    def engine(self) -> Engine:
        """The deployment's engine."""
        return get_engine(self._spec.engine)

    @cached_property
    def components(self) -> tuple[Component, ...]:
        """The processes of the deployment, in the order in which they start."""
        return self.engine.components(self._spec)

    @cached_property
    def folder(self) -> Path:
        """The deployment's folder."""
        return self._state.folder(self._spec.name)

    @cached_property
    def standby(self) -> Deployment | None:
        """The standby that can become this deployment: alive, and of the same engine, image and layout."""
        waiting = self._state.read(self._spec.name)
        if waiting is None or not waiting.standby or _lasting(waiting.spec) != _lasting(self._spec):
            return None
        commands = Launch(self._settings, self._state, waiting.spec)._standby_commands(waiting)
        alive = all(self._process(name).alive() for name in commands)
        return waiting if alive else None

    def stand_by(self, owner: Owner) -> None:
        """Start what can be started without the knobs; nothing where the engine has no standby.

        Raises:
            TargetError: the engine's environment is not there, or there are no ports or GPUs.
        """
        deployment = self._described(owner, standby=True)
        commands = self._standby_commands(deployment)
        if not commands:
            return
        self._write(deployment)
        for name, command in commands.items():
            self._process(name).start(command.argv, self._environment(name, command))

    def start(self, owner: Owner) -> None:
        """Start every process, or have those that stand by go on.

        Raises:
            TargetError: the engine's environment is not there, or there are no ports or GPUs.
        """
        standby = self.standby
        deployment = self._described(owner, ports=standby.ports if standby else None)
        standing_by = self._standby_commands(standby) if standby else {}
        # Read before anything runs: too few GPUs are an error of the whole launch.
        _ = self._gpu_shares
        # Written before anything runs: whatever happens next, the janitor knows the owner.
        self._write(deployment)
        for name, command in self.commands(deployment).items():
            if name in standing_by:
                site = self._site(deployment, next(c for c in self.components if c.name == name))
                path, order = self.engine.hand_over(site, command)
                write_whole(Path(path), order)
            else:
                self._process(name).start(command.argv, self._environment(name, command))

    def commands(self, deployment: Deployment) -> dict[str, Command]:
        """By component, the command line of the deployment's engine and the variables that it adds."""
        return {c.name: self.engine.command(self._spec, c, self._site(deployment, c)) for c in self.components}

    @cached_property
    def _gpu_shares(self) -> dict[str, dict[str, str]]:
        """By component, the variables that show it its GPUs."""
        return gpus.shares(self.components)

    def _standby_commands(self, deployment: Deployment) -> dict[str, Command]:
        """By component, how it stands by, of those that can."""
        commands = {
            component.name: self.engine.standby(deployment.spec, component, self._site(deployment, component))
            for component in self.components
        }
        return {name: command for name, command in commands.items() if command is not None}

    def _process(self, component: str) -> ProcessRecord:
        return self._state.component(self._spec.name, component)

    def _environment(self, component: str, command: Command) -> dict[str, str]:
        base = base_environment(gpus=not self.engine.simulated)
        return base | command.env | self._gpu_shares.get(component, {})

    def _described(
        self, owner: Owner, *, ports: dict[str, dict[str, int]] | None = None, standby: bool = False
    ) -> Deployment:
        return Deployment(
            spec=self._spec,
            owner=owner,
            created_at=datetime.now(UTC),
            ports=ports or self._free_ports(),
            standby=standby,
        )

    def _write(self, deployment: Deployment) -> None:
        (self.folder / "shared").mkdir(parents=True, exist_ok=True)
        for component in self.components:
            self._process(component.name).folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.folder / "spec.json", self._spec.model_dump_json())
        write_whole(self.folder / "deployment.json", deployment.model_dump_json())

    def _site(self, deployment: Deployment, component: Component) -> Site:
        model_path = deployment.spec.model_path
        return Site(
            python=str(environment_python(self._settings, self.engine.environment)),
            host=HOST,
            ports=deployment.ports[component.name],
            peers=deployment.ports,
            spec_file=str(self.folder / "spec.json"),
            work_dir=str(self._process(component.name).folder),
            shared_dir=str(self.folder / "shared"),
            model_path=model_path,
            random_weights=(Path(model_path) / RANDOM_WEIGHTS).is_file(),
            options=self._settings.engine_options(self.engine.environment),
        )

    def _free_ports(self) -> dict[str, dict[str, int]]:
        """A number for each port of each component, none of which another deployment has."""
        taken = {n for d in self._state.deployments() for ports in d.ports.values() for n in ports.values()}
        numbers = iter(free_ports(sum(len(c.ports) for c in self.components), taken, HOST))
        return {c.name: {port: next(numbers) for port in c.ports} for c in self.components}


def _lasting(spec: DeploymentSpec) -> tuple[object, ...]:
    """What a standby depends on: all but knobs, recorder and placement."""
    layouts = tuple((w.role, w.layout, w.replicas) for w in spec.workers)
    return (spec.engine, spec.engine_version, spec.image, spec.model_path, layouts)
