"""The platform seam: what differs between targets on a cluster. Everything else in this package is common to them.

A target on a cluster is a :class:`~wideloop.operators.targets.kubernetes.target.KubernetesTarget` with a platform::

    class ExampleTarget(KubernetesTarget):
        name = "example"
        runtimes = ("native",)
        platform = ExamplePlatform()
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.engines.base import Component
from wideloop.manifests.findings import Finding
from wideloop.manifests.kubernetes import checks
from wideloop.manifests.kubernetes.demand import Demand
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.manifests.kubernetes.rbac import Grants
from wideloop.operators.targets.base import components_with
from wideloop.operators.targets.kubernetes.api import Api
from wideloop.operators.targets.kubernetes.objects import collection
from wideloop.operators.targets.kubernetes.pods import is_being_deleted, role

if TYPE_CHECKING:
    from wideloop.operators.targets.kubernetes.preflight.api_groups import ApiGroups
    from wideloop.operators.targets.kubernetes.preflight.check_result import CheckResult

Json = dict[str, Any]

#: Labels of LeaderWorkerSet, which several platforms use for workers over several nodes.
_LWS_MEMBER = "leaderworkerset.sigs.k8s.io/worker-index"
_LWS_GROUP = "leaderworkerset.sigs.k8s.io/group-index"


class Platform(ABC):
    """What makes and keeps the pods of a deployment: an operator with a kind of its own, or Kubernetes' controllers.

    A deployment has one *root object*, which is called after it and keeps its annotations. Every other object of
    :meth:`render` is owned by the root object, and goes when that goes.

    Attributes:
        kind: of the root object.
        controller: who makes pods for the root object, as messages name it.
        find_controller: a command that shows whether the controller runs.
        upgrade: what to do where the API server refuses the root object's shape.
        up_condition: type of the root object's condition that says that every component is up.
        grants: what the account of Airflow needs for the root object and what belongs to it.
    """

    kind: str
    controller: str
    find_controller: str
    upgrade: str
    up_condition = "Ready"
    grants: Grants = {}

    # ---- documents

    @abstractmethod
    def api_version(self, options: ClusterOptions) -> str:
        """API version of the root object, e.g. ``apps/v1``."""

    @abstractmethod
    def render(
        self, spec: DeploymentSpec, options: ClusterOptions, annotations: Mapping[str, str] | None = None
    ) -> list[Json]:
        """The documents of a deployment, the root object first.

        Every document carries ``labels(spec.name)`` and ``annotations``; pod templates carry
        ``labels(spec.name, component=role)``; their container ``main`` runs the component.

        Raises:
            Refused: the options do not allow this deployment.
        """

    @abstractmethod
    def demands(self, spec: DeploymentSpec, options: ClusterOptions) -> list[Demand]:
        """The pods of a deployment, by what they ask the cluster for."""

    def findings(self, spec: DeploymentSpec, options: ClusterOptions) -> list[Finding]:
        """What the options forbid about a deployment, or make doubtful."""
        return checks.cluster_findings(spec, options)

    def roots(self, options: ClusterOptions) -> str:
        """The API path of all root objects."""
        return collection(self.api_version(options), self.kind, options.namespace)

    # ---- the cluster

    def is_installed(self, api: Api) -> bool:  # noqa: ARG002
        """Whether the API server knows the kind of the root object at all."""
        return True

    def check_installed(self, api: Api, options: ClusterOptions) -> CheckResult | None:  # noqa: ARG002
        """Whether the kind of the root object can be used; None where it is part of Kubernetes."""
        return None

    def check_parts(
        self,
        api: Api,  # noqa: ARG002
        options: ClusterOptions,  # noqa: ARG002
        spec: DeploymentSpec,  # noqa: ARG002
        groups: ApiGroups,  # noqa: ARG002
    ) -> list[CheckResult]:
        """Whether the parts of the platform run that a deployment needs besides the kind of its root object."""
        return []

    # ---- components and how they are reached

    def router(self, spec: DeploymentSpec) -> Component | None:  # noqa: ARG002
        """The frontend that the platform brings; None where it is one of the engine's components."""
        return None

    def components(self, spec: DeploymentSpec) -> tuple[Component, ...]:
        """Every component of a deployment."""
        return components_with(self.router(spec), spec)

    @abstractmethod
    def frontend_service(self, deployment: str) -> tuple[str, int]:
        """Name and port of the Service at which clients ask."""

    @abstractmethod
    def control(self, group: Sequence[Json]) -> list[tuple[Json, int]]:
        """Pod and port of each control server of a worker.

        Args:
            group: the pods of the worker, one per node, the leader first.
        """

    # ---- state

    def up_since(self, root: Json, pods: Sequence[Json]) -> str | None:  # noqa: ARG002
        """When every component of the root object as it is now was up; None when one is not.

        The controller's word counts only for the generation of the root object that it has seen.

        Args:
            pods: of the components, for platforms whose root object does not tell.
        """
        status = root.get("status") or {}
        generation = root["metadata"].get("generation", 0)
        if "observedGeneration" in status and status["observedGeneration"] < generation:
            return None
        up = (c for c in status.get("conditions") or () if c["type"] == self.up_condition and c["status"] == "True")
        return next((str(c["lastTransitionTime"]) for c in up), None)

    # ---- pods of one worker

    def leads(self, pod: Json) -> bool:
        """Whether a pod is the first of its worker's nodes, or its only one: the one that serves HTTP."""
        return _labels(pod).get(_LWS_MEMBER, "0") == "0"

    def replica(self, pod: Json) -> int:
        """The number of the worker that a pod belongs to, among those of its role."""
        return _index(pod, _LWS_GROUP)

    def place(self, pod: Json) -> str:
        """The rank's place in its component: equal for pods that replace each other there."""
        name: str = pod["metadata"]["name"]
        return name

    def leaders(self, pods: Iterable[Json], of_role: str) -> list[Json]:
        """The leading pod of each worker of a role, in the workers' order; without those that are being deleted."""
        leading = [p for p in pods if role(p) == of_role and self.leads(p) and not is_being_deleted(p)]
        return sorted(leading, key=lambda p: (self.replica(p), p["metadata"]["name"]))

    def group_of(self, pods: Iterable[Json], leader: Json) -> list[Json]:
        """The pods of one worker, one per node, ``leader`` first."""
        followers = [p for p in pods if role(p) == role(leader) and not self.leads(p) and not is_being_deleted(p)]
        members = [p for p in followers if self.replica(p) == self.replica(leader)]
        return [leader, *sorted(members, key=lambda p: str(p["metadata"]["name"]))]


def _labels(pod: Json) -> dict[str, str]:
    labels: dict[str, str] = pod["metadata"].get("labels") or {}
    return labels


def _index(pod: Json, *keys: str) -> int:
    """The first of the labels ``keys`` that is a number; 0 where none is."""
    values = (str(_labels(pod).get(key, "")) for key in keys)
    return next((int(value) for value in values if value.isdigit()), 0)
