"""The engine seam: which processes a deployment consists of, and how to talk to them.

An engine is pure: it turns a spec into command lines and log lines into a diagnosis. Starting,
watching and removing processes is the target's business (``wideloop.operators.targets``).
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict
from wideloop.manifests import validation
from wideloop.manifests.deployment import DeploymentSpec, Knobs, WorkerSpec
from wideloop.manifests.diagnosis import Diagnosis
from wideloop.manifests.engines.expert_recorder import ExpertRecorder
from wideloop.manifests.engines.metrics import NO_METRICS, MetricName, Series
from wideloop.manifests.engines.support import support_findings
from wideloop.manifests.findings import Finding
from wideloop.manifests.hardware import GpuSpec, Vendor
from wideloop.manifests.memory import MemoryModel, WeightsAndCache
from wideloop.manifests.model import ModelSpec

#: The numbers at the begin of a version; suffixes of a post-release or a build change no flags.
_RELEASE = re.compile(r"v?(\d+(?:\.\d+)*)")


def release(version: str) -> str:
    """The release of a version: ``0.5.21`` of ``v0.5.21.post1`` and of ``0.5.21+cu130``."""
    match = _RELEASE.match(version)
    return match[1] if match else version


#: State of the kernel for one GPU's experts: tuned for this shape, the slower default, or no tuning needed.
KernelState = Literal["tuned", "default", "not_needed"]


class Component(BaseModel):
    """One process (or pod) of a deployment, e.g. ``frontend``, ``prefill-0``.

    Attributes:
        ports: names of the TCP ports that it listens on; the target picks the numbers. Clients send requests to
            ``http``; a worker behind a frontend or router is controlled at ``control``.
        gpus: number of the host's GPUs that the target must assign to it; 0: none has to be assigned.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    role: str
    ordinal: int = 0
    ports: tuple[str, ...] = ()
    gpus: int = 0


class Need(BaseModel):
    """A package that an installation which the users provide must hold besides the engine.

    Attributes:
        packages: alternatives, any of which is enough; the first is the one to install.
        purpose: the part that needs it; completes "which ... needs".
    """

    model_config = ConfigDict(frozen=True)

    packages: tuple[str, ...]
    purpose: str


class Site(BaseModel):
    """What the target decided for one component: interpreter, address, ports, folders.

    Attributes:
        python: interpreter of the engine's environment.
        host: address the component binds and is reached at.
        ports: number for each of the component's port names.
        peers: host and ports of every component by name; empty where components discover each other.
        spec_file: the DeploymentSpec as JSON, readable by the component.
        work_dir: a folder of the component's own for files it writes (recordings among them).
        shared_dir: a folder all components of the deployment share (service discovery).
        model_path: where the model's files are.
        random_weights: the model's directory has no weights; the engine draws them.
        options: flags that the users of this host add to the engine's command line.
        cache_dir: folder of compiled kernels that outlives the deployment; None: the engine's default folder.
    """

    model_config = ConfigDict(frozen=True)

    python: str
    host: str
    ports: dict[str, int]
    peers: dict[str, dict[str, int]] = {}
    spec_file: str
    work_dir: str
    shared_dir: str
    model_path: str
    random_weights: bool = False
    options: tuple[str, ...] = ()
    cache_dir: str | None = None


class Command(BaseModel):
    """A command line and the environment variables it needs on top of the target's."""

    model_config = ConfigDict(frozen=True)

    argv: tuple[str, ...]
    env: dict[str, str] = {}


class Engine(ABC):
    """How one serving engine is launched, addressed and understood.

    Attributes:
        name: as in ``DeploymentSpec.engine``.
        runtime: what its workers run under; the target must provide it. ``native`` workers are independent servers,
            ``dynamo`` workers register with a Dynamo frontend.
        default_version: the version of a deployment that names none; empty where flags do not depend on it.
        version_module: module whose version in an image or environment is the engine's; empty: it has none.
        vendors: GPU vendors that it runs on.
        knobs: names of the :class:`~wideloop.manifests.deployment.Knobs` that it has; others are refused unless they
            are at their defaults.
        simulated: results of this engine are marked as simulated, because no hardware was measured.
        environment: name of its lock file in ``manifests/environments``.
        imports: modules that must import in its environment (the smoke test of the image).
        needs_weights: the model directory must hold the weight shards.
        start_timeout_s: how long a deployment may take to its first answer.
        stop_grace_s: seconds that its processes get to end after SIGTERM.
        flush_path, metrics_path: HTTP paths on a worker's ``control`` port.
        metrics: series on the metrics page, by the figure that is read from each; figures without one stay unknown.
        balancedness_series: a summary on the metrics page, by label ``forward_mode``: balancedness of experts.
        generate_path: OpenAI-style chat completions on the frontend's ``http`` port.
        recorder: of the experts that are used; None: it has none, and a cycle skips recording and placing experts.
        memory_model: how the GPU memory of a worker divides.
        max_prefill_tokens: most prompt tokens that a scheduler takes into one step, whatever the prefill chunk.
        page_tokens: tokens of one page of the KV cache; a prefill chunk must be whole pages.
    """

    name: str
    runtime: Literal["native", "dynamo"]
    default_version: str = ""
    version_module: str = ""
    vendors: tuple[Vendor, ...] = ("nvidia",)
    knobs: frozenset[str] = frozenset(Knobs.model_fields)
    simulated: bool
    environment: str
    imports: tuple[str, ...]
    needs_weights: bool = True
    start_timeout_s: float = 180.0
    stop_grace_s: float = 10.0
    generate_path = "/v1/chat/completions"
    flush_path = "/flush_cache"
    metrics_path = "/metrics"
    metrics: Mapping[MetricName, Series] = NO_METRICS
    balancedness_series: str | None = None
    recorder: ExpertRecorder | None = None
    memory_model: MemoryModel = WeightsAndCache()
    max_prefill_tokens: int = 16384
    page_tokens: int = 1

    @abstractmethod
    def components(self, spec: DeploymentSpec) -> tuple[Component, ...]:
        """The processes of a deployment, in the order they should start."""

    @abstractmethod
    def command(self, spec: DeploymentSpec, component: Component, site: Site) -> Command:
        """The command line of one component."""

    def make_model(self, python: str, config_file: str, out_dir: str) -> Command | None:  # noqa: ARG002
        """The command that makes a model directory from a bare config.json; None when real weights are needed."""
        return None

    def standby(self, spec: DeploymentSpec, component: Component, site: Site) -> Command | None:  # noqa: ARG002
        """The command of a process that prepares a component's start without its flags and without a GPU, then waits.

        Only the layout of ``spec`` matters: its knobs may change until :meth:`hand_over`. None: a standby would save no
        time.
        """
        return None

    def hand_over(self, site: Site, command: Command) -> tuple[str, str]:
        """The file that turns the component's standby into the component, and its content.

        Raises:
            NotImplementedError: the engine has no standby.
        """
        raise NotImplementedError(f"engine {self.name} has no standby")

    def needs(self, spec: DeploymentSpec, options: Sequence[str]) -> tuple[Need, ...]:  # noqa: ARG002
        """Packages that ``spec`` needs besides :attr:`imports` when ``options`` are added to the command lines."""
        return ()

    def option_findings(self, field: str, options: Sequence[str], spec: DeploymentSpec) -> list[Finding]:  # noqa: ARG002
        """Findings about ``options``, flags that users add to the command lines of every worker of ``spec``.

        Args:
            field: name of the setting that holds the options, for the findings.
        """
        return []

    def image_findings(self, record: Mapping[str, str], version: str) -> list[Finding]:
        """An error where an image holds another version than ``version``, whose flags the command lines have.

        Args:
            record: versions by module, as the smoke test of the image recorded them; empty where it was never tested.
        """
        installed = record.get(self.version_module, "?")
        if installed == "?" or release(installed) == release(version):
            return []
        return [
            Finding(
                field="engine_version",
                value=version,
                rule=f"the image has {self.version_module} {installed}, whose flags differ",
                suggestion=f"Use {release(installed)}, or an image with {version}",
            )
        ]

    def will_die(self, log: Sequence[str]) -> bool:  # noqa: ARG002
        """Whether a component that still runs will certainly end, by the last lines of its log."""
        return False

    def flush_call(self, wait_s: int) -> tuple[str, dict[str, object] | None]:
        """Path and body of the request that empties a worker's cache, once it is idle within ``wait_s`` seconds."""
        return f"{self.flush_path}?timeout={wait_s}", None

    def refusal(self, answer: str) -> str | None:  # noqa: ARG002
        """Why a worker did not carry out a request that it answered with status 200; None when it did."""
        return None

    def capture_sizes(self, max_bs: int) -> tuple[int, ...]:
        """Decode batch sizes per attention-DP rank that get a CUDA graph, ascending; the last one is ``max_bs``.

        A batch in between is padded to the next one. Default: the powers of two below ``max_bs``, and itself.
        """
        return (*(2**power for power in range((max_bs - 1).bit_length())), max_bs)

    def dispatch_tokens(self, worker: WorkerSpec) -> int:
        """Tokens per rank that the buffers of DeepEP's low-latency mode must hold."""
        return worker.knobs.deepep_dispatch_tokens or 0

    def load_findings(self, spec: DeploymentSpec, in_flight: int) -> list[Finding]:  # noqa: ARG002
        """Findings about ``spec`` with ``in_flight`` requests at once."""
        return []

    def kernel_state(self, model: ModelSpec, gpu: GpuSpec, worker: WorkerSpec, version: str) -> KernelState:  # noqa: ARG002
        """Whether the engine of that version has a kernel tuned for the experts of one GPU. Default: it needs none."""
        return "not_needed"

    def captures_decode(self, worker: WorkerSpec) -> bool:
        """Whether ``worker`` runs decode steps as CUDA graphs."""
        return worker.role != "prefill"

    def captures_prefill(self, worker: WorkerSpec) -> bool:  # noqa: ARG002
        """Whether ``worker`` can run prefill chunks as CUDA graphs."""
        return False

    @abstractmethod
    def resolve(self, spec: DeploymentSpec) -> DeploymentSpec:
        """``spec`` with every knob that is ``None`` replaced by the engine's own choice."""

    def comparable(self, spec: DeploymentSpec) -> DeploymentSpec:
        """The resolved ``spec`` as both sides of a comparison of experts in order and placed must be started.

        Default: unchanged, where every spec can be recorded and placed.
        """
        return spec

    def validate(self, spec: DeploymentSpec) -> list[Finding]:
        """Findings about what this engine would refuse in ``spec``, or would silently do wrong.

        An engine adds its own rules to those of the base class: GPU vendor, missing knobs, and the rules of all
        engines.
        """
        return [*support_findings(self, spec), *validation.validate(spec)]

    @abstractmethod
    def diagnose(self, component: Component, log: Sequence[str], exit_code: int | None) -> Diagnosis:
        """Why ``component`` ended, from its log and exit status (negative: the signal)."""
