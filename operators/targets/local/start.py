"""Starting the processes of a deployment on this host, at once or in two halves with a standby in between."""

from __future__ import annotations

import os
from datetime import UTC, datetime
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
    """The environment variables that every process of ours starts from."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _INHERITED or (gpus and name.startswith(_INHERITED_ON_GPUS) and not name.startswith(_SECRET))
    }
    # Processes are found by a mark in their environment, over which those that name themselves (SGLang's ranks and its
    # router, by setproctitle) would write.
    return kept | {"PYTHONUNBUFFERED": "1", "SPT_NOENV": "1"}


def stand_by(settings: Settings, state: State, spec: DeploymentSpec, owner: Owner) -> None:
    """Start what can be started of ``spec`` without its knobs; nothing where the engine has no standby.

    Raises:
        TargetError: the engine's environment is not there, or there are no ports or GPUs.
    """
    components = get_engine(spec.engine).components(spec)
    deployment = _described(state, spec, owner, components, standby=True)
    standbys = _standbys(settings, state, deployment)
    if not standbys:
        return
    _write(state, deployment)
    shares = gpus.shares(components)
    for name, command in standbys.items():
        state.component(spec.name, name).start(command.argv, _environment(spec, command, shares.get(name, {})))


def start(settings: Settings, state: State, spec: DeploymentSpec, owner: Owner) -> None:
    """Start every process of ``spec``, or let those that stand by for it go on.

    Raises:
        TargetError: the engine's environment is not there, or there are no ports or GPUs.
    """
    engine = get_engine(spec.engine)
    components = engine.components(spec)
    waiting = standing_by(settings, state, spec)
    deployment = _described(state, spec, owner, components, ports=waiting.ports if waiting else None)
    shares = gpus.shares(components)
    standbys = _standbys(settings, state, waiting) if waiting else {}
    # Written before anything runs: whatever happens next, the janitor knows whose it is.
    _write(state, deployment)
    for component in components:
        site = _site(settings, state, deployment, component)
        command = engine.command(spec, component, site)
        if component.name in standbys:
            path, order = engine.hand_over(site, command)
            write_whole(Path(path), order)
        else:
            environment = _environment(spec, command, shares.get(component.name, {}))
            state.component(spec.name, component.name).start(command.argv, environment)


def standing_by(settings: Settings, state: State, spec: DeploymentSpec) -> Deployment | None:
    """The standby that can become ``spec``: alive, and of the same engine, image and layout."""
    waiting = state.read(spec.name)
    if waiting is None or not waiting.standby:
        return None
    if _lasting(waiting.spec) != _lasting(spec):
        return None
    alive = all(state.component(spec.name, name).alive() for name in _standbys(settings, state, waiting))
    return waiting if alive else None


def _standbys(settings: Settings, state: State, deployment: Deployment) -> dict[str, Command]:
    """By component, how it stands by, of those that can."""
    spec, engine = deployment.spec, get_engine(deployment.spec.engine)
    sites = {c: _site(settings, state, deployment, c) for c in engine.components(spec)}
    commands = {c.name: engine.standby(spec, c, site) for c, site in sites.items()}
    return {name: command for name, command in commands.items() if command is not None}


def _environment(spec: DeploymentSpec, command: Command, share: dict[str, str]) -> dict[str, str]:
    return base_environment(gpus=not get_engine(spec.engine).simulated) | command.env | share


def _lasting(spec: DeploymentSpec) -> tuple[object, ...]:
    """What a standby depends on: all but knobs, recorder and placement."""
    layouts = tuple((w.role, w.layout, w.replicas) for w in spec.workers)
    return (spec.engine, spec.engine_version, spec.image, spec.model_path, layouts)


def _described(
    state: State,
    spec: DeploymentSpec,
    owner: Owner,
    components: tuple[Component, ...],
    *,
    ports: dict[str, dict[str, int]] | None = None,
    standby: bool = False,
) -> Deployment:
    now = datetime.now(UTC)
    ports = ports or _ports(state, components)
    return Deployment(spec=spec, owner=owner, created_at=now, ports=ports, standby=standby)


def _write(state: State, deployment: Deployment) -> None:
    spec = deployment.spec
    folder = state.folder(spec.name)
    (folder / "shared").mkdir(parents=True, exist_ok=True)
    for component in get_engine(spec.engine).components(spec):
        state.component(spec.name, component.name).folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "spec.json", spec.model_dump_json())
    write_whole(folder / "deployment.json", deployment.model_dump_json())


def _site(settings: Settings, state: State, deployment: Deployment, component: Component) -> Site:
    spec = deployment.spec
    engine: Engine = get_engine(spec.engine)
    folder = state.folder(spec.name)
    return Site(
        python=str(environment_python(settings, engine.environment)),
        host=HOST,
        ports=deployment.ports[component.name],
        peers=deployment.ports,
        spec_file=str(folder / "spec.json"),
        work_dir=str(state.component(spec.name, component.name).folder),
        shared_dir=str(folder / "shared"),
        model_path=spec.model_path,
        random_weights=(Path(spec.model_path) / RANDOM_WEIGHTS).is_file(),
        options=settings.engine_options(engine.environment),
    )


def _ports(state: State, components: tuple[Component, ...]) -> dict[str, dict[str, int]]:
    taken = {p for d in state.deployments() for ports in d.ports.values() for p in ports.values()}
    free = iter(free_ports(sum(len(c.ports) for c in components), taken, HOST))
    return {c.name: {port: next(free) for port in c.ports} for c in components}
