"""The target seam: where engines run, and how they are applied, watched, reached and removed.

Everything here returns in seconds; waiting is the caller's business, by asking again. All calls are
idempotent: a retry re-applies, deletes what is left, or finds the client it started before.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, field_validator
from wideloop.manifests.clients.base import LoadGenerator
from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.diagnosis import Diagnosis
from wideloop.manifests.engines import get_engine
from wideloop.manifests.engines.base import Command, Component, Engine
from wideloop.manifests.errors import Refused
from wideloop.manifests.findings import Finding
from wideloop.manifests.frozen import Frozen
from wideloop.manifests.telemetry import TelemetrySources
from wideloop.operators.settings import Settings

#: A log line of an engine is rarely longer on average.
_BYTES_PER_LINE = 100


class Owner(BaseModel):
    """The DAG run that is responsible for a deployment.

    ``keep_until`` lets a deployment outlive its run on purpose; the janitor removes it afterwards.
    ``installation`` is the results store the run writes to: several Airflows may share a cluster.
    """

    model_config = ConfigDict(frozen=True)

    dag_id: str
    run_id: str
    installation: str = ""
    keep_until: datetime | None = None


class Owned(BaseModel):
    """A deployment that exists on a target, as the janitor sees it. ``owner`` may be lost."""

    model_config = ConfigDict(frozen=True)

    name: str
    owner: Owner | None
    created_at: datetime | None


class Preparation(BaseModel):
    """Work on an image or on weights that runs, or has ended, on a target.

    ``owners`` are the runs that wait for it: equal work is done once for all of them. Without owners, its own time
    limit ends it.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    owners: tuple[Owner, ...]


class Status(BaseModel):
    """State of a deployment. ``ready`` means that it has answered a real generation.

    ``start_seconds`` is the time from apply to that answer.
    """

    model_config = ConfigDict(frozen=True)

    state: Literal["absent", "pending", "ready", "failed"]
    start_seconds: float | None = None
    reason: str = ""
    diagnosis: Diagnosis | None = None


class ClientStatus(BaseModel):
    """State of a load generator or collector that runs beside a deployment."""

    model_config = ConfigDict(frozen=True)

    state: Literal["absent", "running", "succeeded", "failed"]
    exit_code: int | None = None
    seconds: float = 0.0
    log_tail: tuple[str, ...] = ()


class Rank(Frozen):
    """One process or pod of a deployment, as it is described for whoever looks at a measurement later.

    Attributes:
        name: unique in the deployment. component: as in ``Component.name``, or its role where it has several pods.
        node: where it runs; empty on this host.
        image: the digest that it runs, by the word of the node; empty where there is none.
        previous: the run of its container that ended before the present one.
    """

    name: str
    component: str
    node: str = ""
    image: str = ""
    previous: bool = False


class Endpoints(BaseModel):
    """URLs of a deployment.

    Attributes:
        frontend: where clients ask.
        control: by the component name of each worker, its control servers: one, or one for each data-parallel rank.
    """

    model_config = ConfigDict(frozen=True)

    frontend: str
    control: dict[str, tuple[str, ...]]

    @field_validator("control", mode="before")
    @classmethod
    def _one_or_several(cls, control: Any) -> Any:
        """Endpoints that an earlier version stored have a single URL per worker."""
        if not isinstance(control, dict):
            return control
        return {name: (urls,) if isinstance(urls, str) else urls for name, urls in control.items()}


class Image(Frozen):
    """A verified engine image: its digest, and what its smoke test found."""

    digest: str
    versions: dict[str, str]
    reused: bool


class ImageBuild(Frozen):
    """What one run wants otherwise about a build than the settings say; empty values leave a setting as it is.

    Attributes:
        args: build arguments, beside and before those of the settings.
        no_cache: build every layer anew, and an image whose inputs were built before.
        cpu, memory: requests of the build, as Kubernetes writes them.
    """

    args: dict[str, str] = {}
    no_cache: bool = False
    cpu: str = ""
    memory: str = ""


class Weights(Frozen):
    """A verified model cache and where engines find it."""

    path: str
    files: int
    bytes: int
    has_weights: bool
    reused: bool


def first_and_last(text: bytes, size: int) -> bytes:
    """``text``, or its first and last ``size`` bytes where it is longer than both.

    Example:
        >>> first_and_last(b"abcdefgh", 2)
        b'ab\\n[... 4 bytes left out ...]\\ngh'
    """
    if len(text) <= 2 * size:
        return text
    return text[:size] + left_out(len(text) - 2 * size) + text[-size:]


def left_out(size: int | None) -> bytes:
    """What stands in a log for ``size`` bytes of it that were left out; None: unknown how many."""
    count = "more" if size is None else f"{size} bytes"
    return f"\n[... {count} left out ...]\n".encode()


def components_with(frontend: Component | None, spec: DeploymentSpec) -> tuple[Component, ...]:
    """The engine's components; ``frontend`` comes first, in the place of the engine's own of that role."""
    components = get_engine(spec.engine).components(spec)
    if frontend is None:
        return components
    return (frontend, *(c for c in components if c.role != frontend.role))


class AddedOptions(NamedTuple):
    """Flags that a target's settings add to the command line of every worker, and the setting that holds them."""

    setting: str = ""
    flags: tuple[str, ...] = ()


class Target(ABC):
    """A place where engines run.

    Args:
        settings: of this process.

    Attributes:
        name: as in ``DeploymentSpec.target``.
        patience_s: how long a waiting task polls by itself before it defers; short where engines
            start in seconds, zero where they take minutes.
        look_again_s: how long a deferred wait rests between two looks, where the target cannot tell of a change.
        runtimes: what engines' workers may run under here, as in ``Engine.runtime``.
    """

    name: str
    patience_s: float
    look_again_s: float = 2.0
    runtimes: tuple[str, ...] = ("native", "dynamo")

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @classmethod
    def is_configured(cls, settings: Settings) -> bool:  # noqa: ARG003
        """Whether this process could have deployments there: a cluster only where it knows one."""
        return True

    def frontend(self, spec: DeploymentSpec) -> Component | None:  # noqa: ARG002
        """The component that clients ask, where the target brings it; None where the engine's components hold it."""
        return None

    def components(self, spec: DeploymentSpec) -> tuple[Component, ...]:
        """Every component of a deployment here: the engine's, with the frontend that the target brings."""
        return components_with(self.frontend(spec), spec)

    def added_options(self, engine: Engine) -> AddedOptions:  # noqa: ARG002
        """The flags that this target's settings add to every worker of ``engine``: none, where there is no setting."""
        return AddedOptions()

    @abstractmethod
    def prepare_image(
        self, engine: Engine, generator: LoadGenerator, owner: Owner | None = None, build: ImageBuild | None = None
    ) -> Image:
        """Make sure that what the engine and the load generator run in is there and works.

        Cheap when verified before. The digest is that of the engine's image. ``owner`` is the run that waits for it;
        ``build`` is for targets that build images.

        Raises:
            TargetError: one of the two could not be built, or fails its smoke test.
        """

    @abstractmethod
    def prepare_weights(self, engine: Engine, model: str, owner: Owner | None = None) -> Weights:
        """Make sure the model's files are there and complete; cheap when verified before.

        ``owner`` is the run that waits for them.
        """

    def create(self, thing: Literal["namespace", "hub_secret"]) -> str:
        """Make something that deployments need and that usually an administrator makes; returns what was done.

        Raises:
            Refused: this target has no such thing.
        """
        rule = f"is nothing that target {self.name} makes"
        raise Refused([Finding(field="create", value=thing, rule=rule, suggestion="Leave it empty")])

    def preparations(self) -> list[Preparation]:
        """What was begun for images and weights beyond the process that asked for it: nothing, where nothing can."""
        return []

    def abandon(self, preparation: str, owners: Collection[Owner]) -> bool:  # noqa: ARG002
        """Release a preparation for ``owners``, whose runs are over; returns whether it was removed.

        It continues while any other run waits for it.

        Raises:
            TargetError: it does not end.
        """
        return False

    def account_findings(self) -> list[Finding]:
        """What keeps this account from using the target at all, whatever is deployed: nothing on this host.

        Raises:
            TargetError: the target cannot be reached.
        """
        return []

    @abstractmethod
    def preflight(self, spec: DeploymentSpec, generator: LoadGenerator) -> list[Finding]:
        """What would go wrong, found before anything is started; ``generator`` will measure the deployment."""

    def stand_by(self, spec: DeploymentSpec, owner: Owner) -> None:  # noqa: B027
        """Do now what a later :meth:`apply` of that name need not wait for; may do nothing.

        It holds no accelerators, and the knobs of ``spec`` may be others by then.
        """

    @abstractmethod
    def apply(self, spec: DeploymentSpec, owner: Owner) -> None:
        """Start the deployment, or leave it be when exactly this one already runs.

        Raises:
            TargetError: it could not be started; nothing half-started is left.
        """

    @abstractmethod
    def status(self, name: str) -> Status:
        """How the deployment is doing."""

    async def changed(self, name: str, client: str | None = None) -> None:  # noqa: ARG002
        """Return when the deployment, or its client, may have changed; at the latest after ``look_again_s``."""
        await asyncio.sleep(self.look_again_s)

    @abstractmethod
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
        """One short HTTP request to a component, returns the answer's text.

        The component is the frontend, or a worker, whose first control server answers. The caller needs no route to
        the component: the target finds one.

        Raises:
            TargetError: it refused or did not answer.
        """

    @abstractmethod
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
        """The same request to every control server of a worker, in the order of :attr:`Endpoints.control`.

        Emptying caches, recording and reading metrics concern every data-parallel rank, and some engines have a
        server for each.

        Raises:
            TargetError: one of them refused or did not answer.
        """

    @abstractmethod
    def spec(self, name: str) -> DeploymentSpec:
        """The spec a deployment was applied with.

        Raises:
            TargetError: there is no such deployment.
        """

    @abstractmethod
    def endpoints(self, name: str) -> Endpoints:
        """Where the deployment can be reached from a client on the target."""

    def telemetry(self, name: str) -> TelemetrySources:  # noqa: ARG002
        """What can be sampled of a deployment from where its clients run: nothing, where nothing is known of."""
        return TelemetrySources()

    @abstractmethod
    def client_dir(self, name: str, client: str) -> str:
        """The folder in which a client of this name finds and leaves its files, on the target."""

    @property
    def client_cache_dir(self) -> str | None:
        """A folder on the target that clients may share between runs (tokenised prompts), if there is one."""
        return None

    @abstractmethod
    def run_client(self, name: str, client: str, command: Command, environment: str) -> None:
        """Start ``command`` beside the deployment unless a client of that name was started before.

        Args:
            environment: what it runs in, as in ``LoadGenerator.environment``.

        Raises:
            TargetError: there is no such deployment, or no such environment.
        """

    @abstractmethod
    def client_status(self, name: str, client: str) -> ClientStatus:
        """How a client is doing."""

    @abstractmethod
    def collect(self, name: str, client: str, suffixes: Sequence[str] = ()) -> Path:
        """A local folder with the files that the client wrote and that end with one of ``suffixes`` (none: all)."""

    @abstractmethod
    def stop_client(self, name: str, client: str) -> None:
        """End a client and forget it, so that the same name can run again."""

    @abstractmethod
    def logs(self, name: str, component: str, lines: int = 50) -> tuple[str, ...]:
        """The last log lines of one component."""

    def ranks(self, name: str) -> tuple[Rank, ...]:
        """Every process of a deployment, those that have ended among them."""
        return tuple(Rank(name=c.name, component=c.name) for c in self.components(self.spec(name)))

    def whole_log(self, name: str, rank: Rank, size: int) -> bytes:
        """The log of one rank: its first and its last ``size`` bytes where it is longer than both."""
        return first_and_last("\n".join(self.logs(name, rank.component, size // _BYTES_PER_LINE)).encode(), size)

    def manifest(self, name: str) -> str:  # noqa: ARG002
        """What was applied, as YAML: documents of a cluster, command lines of a host; empty where it is not known."""
        return ""

    @abstractmethod
    def recordings(self, name: str, component: str) -> list[Path]:
        """Expert recordings the component wrote, oldest first, as local files."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Remove the deployment and its clients; returns when its accelerators are free."""

    @abstractmethod
    def list_owned(self) -> list[Owned]:
        """Every deployment that exists here, whether or not its owner still does."""
