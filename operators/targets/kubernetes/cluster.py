"""What all uses of one cluster in this process share: a connection, a watch, and what need not be asked twice."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.errors import Refused, TargetError
from wideloop.manifests.kubernetes import image_build
from wideloop.manifests.kubernetes.config import config_map_name
from wideloop.manifests.kubernetes.labels import SPEC_KEY
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.operators.settings import Settings
from wideloop.operators.targets.kubernetes.api import Api
from wideloop.operators.targets.kubernetes.objects import UNREADABLE, collection, log_lines
from wideloop.operators.targets.kubernetes.platform import Platform
from wideloop.operators.targets.kubernetes.pods import restarts
from wideloop.operators.targets.kubernetes.view import pods
from wideloop.operators.targets.kubernetes.watch import Watch

if TYPE_CHECKING:
    from wideloop.operators.targets.kubernetes.terminations import Termination

Json = dict[str, Any]

#: Lines of a log that can hold the tracebacks of all ranks of a pod.
_LOG_LINES = 600
#: Uses of what is remembered until it is forgotten as a whole.
_MEMORY = 1000


class Cluster:
    """One namespace of one cluster, as one user sees it.

    Attributes:
        platform: what manages the pods of deployments there.
        answered: seconds that root objects (uid) took to answer a generation, by the pods (signature) that answered.
        kept_ends: of root objects (uid), what was last written down of containers that ended.
    """

    def __init__(
        self,
        kubeconfig: Path | None,
        context: str | None,
        options: ClusterOptions,
        platform: Platform,
        conn_id: str | None = None,
    ) -> None:
        self.api = Api(kubeconfig, context, conn_id)
        self.platform = platform
        self._options = options
        self._specs: dict[str, DeploymentSpec] = {}
        self._logs: dict[tuple[str, int, bool], tuple[str, ...]] = {}
        self.answered: dict[tuple[str, str], float] = {}
        self.kept_ends: dict[str, Sequence[Termination]] = {}
        self._last: dict[tuple[str, str], float] = {}

    @cached_property
    def options(self) -> ClusterOptions:
        """The options, in the context's namespace where they name none."""
        named = "namespace" in self._options.model_fields_set or self.api.namespace is None
        return self._options if named else self._options.changed(namespace=self.api.namespace)

    @cached_property
    def files_image(self) -> str:
        """What the pod that serves files runs in."""
        return image_build.client_image(self.options)

    def client_image(self, environment: str) -> str:
        """What clients of an environment run in.

        Raises:
            TargetError: the options name no image for it.
        """
        try:
            return image_build.client_image(self.options, environment)
        except Refused as error:
            raise TargetError(str(error)) from error

    @cached_property
    def watch(self) -> Watch:
        """The watch; it starts with the first wait."""
        return Watch(self.api, self.options, self.platform)

    def spec(self, name: str) -> DeploymentSpec:
        """The spec a deployment was applied with.

        Raises:
            TargetError: there is none of that name, or another version of this project made it.
        """
        path = collection("v1", "ConfigMap", self.options.namespace) + f"/{config_map_name(name)}"
        config_map = self.api.get(path)
        if config_map is None:
            raise TargetError(f"there is no deployment {name} in namespace {self.options.namespace}")
        try:
            return DeploymentSpec.model_validate_json(config_map["data"][SPEC_KEY])
        except (KeyError, ValueError) as error:
            raise TargetError(f"deployment {name} was not made by this version, delete it: {error}") from error

    def spec_of(self, root: Json) -> DeploymentSpec:
        """The spec of a root object, asked for once: another spec is another object."""
        uid = root["metadata"]["uid"]
        if uid not in self._specs:
            if len(self._specs) >= _MEMORY:
                self._specs.clear()
            self._specs[uid] = self.spec(root["metadata"]["name"])
        return self._specs[uid]

    def last_log(self, pod: Json, previous: bool) -> tuple[str, ...]:
        """The last lines of a pod's container that ended, asked for once per end; none once another has its name."""
        key = (pod["metadata"]["uid"], restarts(pod), previous)
        if not self._logs.get(key):
            if len(self._logs) >= _MEMORY:
                self._logs.clear()
            name = pod["metadata"]["name"]
            lines = log_lines(
                self.api, self.options.namespace, name, container="main", tail=_LOG_LINES, previous=previous
            )
            if lines and lines[0].startswith(UNREADABLE):
                return ()  # Another time; until then there is what the pod itself shows.
            now = self.api.get(f"{pods(self.options)}/{name}") if lines else None
            self._logs[key] = lines if now and now["metadata"]["uid"] == pod["metadata"]["uid"] else ()
        return self._logs[key]

    def due(self, action: str, name: str, every_s: float) -> bool:
        """Whether ``action`` was last done for a deployment at least ``every_s`` ago; then it is done now."""
        now = time.monotonic()
        if now - self._last.get((action, name), -every_s) < every_s:
            return False
        self._last[action, name] = now
        return True


def cluster(settings: Settings, platform: Platform) -> Cluster:
    """The cluster that the settings describe: one per process, as connections and threads survive no fork."""
    options = settings.cluster.model_dump_json(exclude_unset=True)
    connection = (settings.kubeconfig, settings.kube_context, settings.kubernetes_conn_id)
    return _cluster(os.getpid(), connection, options, platform)


@lru_cache
def _cluster(
    pid: int,  # noqa: ARG001
    connection: tuple[Path | None, str | None, str | None],
    options: str,
    platform: Platform,
) -> Cluster:
    kubeconfig, context, conn_id = connection
    return Cluster(kubeconfig, context, ClusterOptions.model_validate_json(options), platform, conn_id)
