"""Dynamo as a platform: the DynamoGraphDeployment, its CRD, and the pods that its operator makes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.errors import ApiRefused
from wideloop.manifests.findings import Finding
from wideloop.manifests.kubernetes import dynamo
from wideloop.manifests.kubernetes.demand import Demand
from wideloop.manifests.kubernetes.dynamo import checks
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.operators.targets.dynamo.crd import CRD, check_crd
from wideloop.operators.targets.dynamo.installation import check_installation
from wideloop.operators.targets.kubernetes.api import Api
from wideloop.operators.targets.kubernetes.platform import Platform
from wideloop.operators.targets.kubernetes.preflight.api_groups import ApiGroups
from wideloop.operators.targets.kubernetes.preflight.check_result import CheckResult

Json = dict[str, Any]

# With Grove, the operator names the pods of leaders ``...-ldr-<random>`` and those of the others ``...-wkr-<random>``;
# without it, workers over several nodes are LeaderWorkerSets.
_GROVE_FOLLOWER = re.compile(r"-wkr-[a-z0-9]+$")
_GROVE_INDEX = "grove.io/podclique-pod-index"
_GROVE_GROUP = "grove.io/podcliquescalinggroup-replica-index"


class DynamoPlatform(Platform):
    """Dynamo's operator, 1.5 or later."""

    kind = dynamo.KIND
    controller = "Dynamo's operator"
    find_controller = "kubectl get pods -A | grep dynamo-operator"
    upgrade = "Use an operator of the version that this project writes for, 1.5 or later, or another api_version"
    grants = dynamo.grants()

    def api_version(self, options: ClusterOptions) -> str:
        return f"{dynamo.GROUP}/{options.api_version}"

    def render(
        self, spec: DeploymentSpec, options: ClusterOptions, annotations: Mapping[str, str] | None = None
    ) -> list[Json]:
        return dynamo.render(spec, options, annotations)

    def demands(self, spec: DeploymentSpec, options: ClusterOptions) -> list[Demand]:
        # The pods of the older shape are the same, and demands are read off the newer one.
        return dynamo.demands(dynamo.render(spec, options.changed(api_version="v1beta1"))[0])

    def findings(self, spec: DeploymentSpec, options: ClusterOptions) -> list[Finding]:
        return checks.dynamo_findings(spec, options)

    def is_installed(self, api: Api) -> bool:
        """Whether the CRD exists.

        A 404 of the kind itself may also mean that the API server is starting, and is retried for minutes; whether
        the CRD exists is known at once.
        """
        try:
            return api.get(CRD) is not None
        except ApiRefused as error:
            if error.status != 403:
                raise
            return True

    def check_installed(self, api: Api, options: ClusterOptions) -> CheckResult:
        return check_crd(api, options)

    def check_parts(
        self, api: Api, options: ClusterOptions, spec: DeploymentSpec, groups: ApiGroups
    ) -> list[CheckResult]:
        return check_installation(api, options, spec, groups)

    def frontend_service(self, deployment: str) -> tuple[str, int]:
        return dynamo.frontend_service(deployment), dynamo.FRONTEND_PORT

    def control(self, group: Sequence[Json]) -> list[tuple[Json, int]]:
        """The leader's system port: its engine hands requests on to the other ranks."""
        return [(group[0], dynamo.SYSTEM_PORT)]

    def leads(self, pod: Json) -> bool:
        return super().leads(pod) and not _GROVE_FOLLOWER.search(pod["metadata"]["name"])

    def replica(self, pod: Json) -> int:
        labels = pod["metadata"].get("labels") or {}
        grove = (str(labels.get(key, "")) for key in (_GROVE_GROUP, _GROVE_INDEX))
        return super().replica(pod) or next((int(index) for index in grove if index.isdigit()), 0)

    def place(self, pod: Json) -> str:
        """Grove names a pod that replaces another anew, with the same index in its clique."""
        name: str = pod["metadata"]["name"]
        index = (pod["metadata"].get("labels") or {}).get(_GROVE_INDEX)
        return name if index is None else f"{name.rpartition('-')[0]}-{index}"
