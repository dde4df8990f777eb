"""Settings: paths, URLs and limits. Defaults are below one home folder; ``WIDELOOP_*`` variables override them."""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError
from wideloop.manifests.errors import Refused, refuse
from wideloop.manifests.findings import Finding, invalid, unknown
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.manifests.telemetry import TelemetrySources
from wideloop.operators.bootstrap import default_home

_PREFIX = "WIDELOOP_"
#: A page that the load generator's host can read. ``{host}`` stands for the address of each node of a deployment.
ExporterUrl = Annotated[str, Field(pattern=r"^https?://[^/\s]+(/\S*)?$")]


class TelemetrySettings(BaseModel):
    """Exporters whose pages are read beside every load.

    Attributes:
        dcgm: of NVIDIA's DCGM exporter, e.g. ``http://{host}:9400/metrics``, or the name of a headless Service.
        node_exporter: of Prometheus' node exporter, whose collector ``infiniband`` counts what ports carry.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dcgm: tuple[ExporterUrl, ...] = ()
    node_exporter: tuple[ExporterUrl, ...] = ()

    def sources(self, hosts: Sequence[str]) -> TelemetrySources:
        """The exporters of ``hosts``."""
        return TelemetrySources(dcgm=_of_hosts(self.dcgm, hosts), node_exporter=_of_hosts(self.node_exporter, hosts))


def _of_hosts(urls: Sequence[str], hosts: Sequence[str]) -> tuple[str, ...]:
    literal = [f"[{host}]" if ":" in host else host for host in hosts]
    filled = [url.replace("{host}", host) for url in urls for host in (literal if "{host}" in url else ("",))]
    return tuple(dict.fromkeys(filled))


class Settings(BaseSettings):
    """Read from the environment, e.g. ``WIDELOOP_RESULTS_URL`` or ``WIDELOOP_CLUSTER__NAMESPACE``.

    Attributes:
        home: folder of all files whose path or URL is not set.
        results_url: SQLAlchemy URL of the results store.
        study_url: SQLAlchemy URL of Optuna's storage. It must be neither the results database nor Airflow's, because
            each has its own migration table.
        artefacts_url: root of the artefact store, any URL that ``ObjectStoragePath`` accepts.
        local_deployments: how many deployments the local target's accelerators hold at once.
        sglang_python: the interpreter of the SGLang installed on a GPU host, for engine ``sglang`` on target local.
        benchmark_python: the interpreter of a host's own load generators of environment ``benchmark``; None: that
            environment is built from its lock file.
        profiles: folder of hardware profiles of one's own, ``<name>.yaml`` each.
        pythons: the same for other environments, by name, e.g. ``WIDELOOP_PYTHONS='{"name": "/path/to/python"}'``.
        sglang_options: further flags of every SGLang server on this host.
        kubeconfig: kubeconfig file of the cluster; None: the pod's service account, ``KUBECONFIG``, ``~/.kube/config``.
        kube_context: context of the kubeconfig; None: its current one.
        kubernetes_conn_id: Airflow connection to the cluster, instead of ``kubeconfig`` and ``kube_context``.
        hf_conn_id: Airflow connection whose password is the token for downloads to this host; None: ``HF_TOKEN``, or
            the file that ``hf auth login`` writes.
        cluster: options of all deployments on that cluster; without a namespace, the context's is used.
        cluster_deployments: how many deployments may exist there at once; None: no limit.
        telemetry: exporters of GPUs and network ports, e.g. ``WIDELOOP_TELEMETRY__DCGM='["http://{host}:9400/metrics"]'``.
    """

    model_config = SettingsConfigDict(env_prefix=_PREFIX, env_nested_delimiter="__")

    home: Path = Field(default_factory=default_home)
    results_url: str = ""
    study_url: str = ""
    artefacts_url: str = ""
    local_deployments: int = Field(1, ge=1)
    sglang_python: Path | None = None
    benchmark_python: Path | None = None
    pythons: dict[str, Path] = {}
    sglang_options: str = ""
    profiles: Path | None = None
    kubeconfig: Path | None = None
    kube_context: str | None = None
    kubernetes_conn_id: str | None = None
    hf_conn_id: str | None = None
    cluster: ClusterOptions = ClusterOptions()
    cluster_deployments: int | None = Field(None, ge=1)
    telemetry: TelemetrySettings = TelemetrySettings()

    @model_validator(mode="before")
    @classmethod
    def _below_home(cls, values: dict[str, object]) -> dict[str, object]:
        home = Path(str(values.get("home") or default_home())).absolute()
        _refuse_unknown(values)
        values["home"] = home
        values.setdefault("results_url", f"sqlite:///{home / 'results.db'}")
        values.setdefault("study_url", f"sqlite:///{home / 'studies.db'}")
        values.setdefault("artefacts_url", f"file://{home / 'artefacts'}")
        return values

    @field_validator("study_url")
    @classmethod
    def _with_driver(cls, url: str) -> str:
        """SQLAlchemy's default driver for PostgreSQL is psycopg2, which nothing here installs."""
        return re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", url)

    @property
    def environments(self) -> Path:
        """The virtual environments, one per lock file, as ``wideloop.operators.bootstrap`` makes them."""
        return self.home / "venvs"

    def interpreter(self, environment: str) -> Path | None:
        """The interpreter that the users of this host name for an environment, None where it is built here."""
        named = {"sglang": self.sglang_python, "benchmark": self.benchmark_python}
        return named.get(environment) or self.pythons.get(environment)

    def engine_options(self, environment: str) -> tuple[str, ...]:
        """Flags that users of this host add to the engine of that environment."""
        return tuple(shlex.split(self.sglang_options)) if environment == "sglang" else ()

    @property
    def models(self) -> Path:
        """Model directories made or downloaded for the local target."""
        return self.home / "models"

    @property
    def local(self) -> Path:
        """State of the local target's deployments."""
        return self.home / "local"


def interpreter_setting(environment: str) -> str:
    """The setting that names the interpreter of an environment, for messages."""
    field = f"{environment}_python"
    return f"WIDELOOP_{field.upper()}" if field in Settings.model_fields else f"WIDELOOP_PYTHONS[{environment!r}]"


#: Variables with the prefix that are no settings: of tasks in pods, of DAG files, of child processes and of the tests.
_NO_SETTINGS = frozenset(
    f"{_PREFIX}{name}"
    for name in ("CONTEXT", "FILES", "RESULT", "CYCLE_SCHEDULE", "EXPERT_PAIRS", "DEPLOYMENT", "SCREENSHOTS")
)
#: Likeness from which on a name is taken for a misspelt setting; other names with the prefix may be anybody's.
_MISSPELT = 0.8


def _refuse_unknown(values: Mapping[str, Any]) -> None:
    """Refuse names that are no settings: a misspelt one would have no effect, silently.

    Raises:
        Refused: says the nearest name of each.
    """
    cluster = values.get("cluster")
    given: Mapping[str, Any] = cluster if isinstance(cluster, dict) else {}
    findings = [
        unknown(f"{_PREFIX}CLUSTER__{name.upper()}", name, ClusterOptions.model_fields).changed(value=given[name])
        for name in given
        if name not in ClusterOptions.model_fields
    ]
    known_names = [_PREFIX + name.upper() for name in Settings.model_fields]
    wrong = [variable for variable in sorted(os.environ) if _is_misspelt(variable)]
    refuse(findings + [unknown(variable, variable, known_names) for variable in wrong])


def _is_misspelt(variable: str) -> bool:
    name = variable.removeprefix(_PREFIX).lower().partition("__")[0]
    if not variable.startswith(_PREFIX) or variable in _NO_SETTINGS or name in Settings.model_fields:
        return False
    return "__" in variable or bool(difflib.get_close_matches(name, Settings.model_fields, n=1, cutoff=_MISSPELT))


@lru_cache
def settings() -> Settings:
    """The settings of this process.

    Raises:
        Refused: a variable names no setting, or has a value that the setting cannot take.
    """
    try:
        return Settings()
    except ValidationError as error:
        raise Refused([_of_variable(finding) for finding in invalid(error)]) from error
    except SettingsError as error:
        rule = " ".join(str(error).split())
        suggestion = (
            'Mappings and lists are written as JSON, e.g. WIDELOOP_CLUSTER__WORKER_ENV=\'{"NCCL_DEBUG": "INFO"}\''
        )
        raise Refused([Finding(field=f"{_PREFIX}*", value=None, rule=rule, suggestion=suggestion)]) from error


def _of_variable(finding: Finding) -> Finding:
    """A finding about a field, with the name of the variable that sets it."""
    return finding.changed(field=_PREFIX + finding.field.upper().replace(".", "__"))


def make_private(home: Path) -> None:
    """Create the home folder, readable by its owner only: it holds databases, logs and prompts.

    A home of another user stays as that user has it.
    """
    home.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(PermissionError):
        home.chmod(0o700)
