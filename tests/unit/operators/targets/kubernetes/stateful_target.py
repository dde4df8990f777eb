"""A second target on a cluster: workers as one StatefulSet per deployment, without any operator.

Each pod runs two data-parallel ranks with a control server each, and a router of the platform's own takes requests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.engines import get_engine
from wideloop.manifests.engines.base import Component
from wideloop.manifests.kubernetes.config import config_map
from wideloop.manifests.kubernetes.demand import Demand, pod_demand
from wideloop.manifests.kubernetes.labels import labels
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.manifests.kubernetes.pods import pod_template
from wideloop.manifests.kubernetes.probes import worker_probes
from wideloop.operators.targets.kubernetes.platform import Platform
from wideloop.operators.targets.kubernetes.pods import ready_since
from wideloop.operators.targets.kubernetes.target import KubernetesTarget

Json = dict[str, Any]

CONTROL_PORTS = (8200, 8201)
_PORTS = {"http": 8000, "control": CONTROL_PORTS[0], "system": 9091, "bootstrap": 8998}


class StatefulPlatform(Platform):
    kind = "StatefulSet"
    controller = "the StatefulSet controller"
    find_controller = "kubectl -n kube-system get pods"
    upgrade = "Use Kubernetes 1.27 or later"
    grants = {"Role": [{"apiGroups": ["apps"], "resources": ["statefulsets"], "verbs": ["get", "list", "watch"]}]}

    def api_version(self, options: ClusterOptions) -> str:
        return "apps/v1"

    def render(
        self, spec: DeploymentSpec, options: ClusterOptions, annotations: Mapping[str, str] | None = None
    ) -> list[Json]:
        config = config_map(spec, options)
        (worker,) = spec.workers
        component = next(c for c in get_engine(spec.engine).components(spec) if c.role == worker.role)
        template = pod_template(
            spec,
            options,
            component,
            config["data"],
            ports=_PORTS,
            probes=worker_probes(CONTROL_PORTS[0], simulated=True),
            priority_class=options.priority_class,
        )
        root: Json = {
            "apiVersion": self.api_version(options),
            "kind": self.kind,
            "metadata": {"name": spec.name, "namespace": options.namespace, "labels": labels(spec.name)},
            "spec": {
                "serviceName": spec.name,
                "replicas": worker.replicas,
                "selector": {"matchLabels": labels(spec.name, component=worker.role)},
                "template": template,
            },
        }
        for document in (root, config):
            document["metadata"]["annotations"] = dict(annotations or {})
        return [root, config]

    def demands(self, spec: DeploymentSpec, options: ClusterOptions) -> list[Demand]:
        root = self.render(spec, options)[0]["spec"]
        return [pod_demand("worker", root["replicas"], root["template"]["spec"])]

    def router(self, spec: DeploymentSpec) -> Component | None:
        return Component(name="frontend", role="frontend", ports=("http",))

    def frontend_service(self, deployment: str) -> tuple[str, int]:
        return f"{deployment}-router", 80

    def control(self, group: Sequence[Json]) -> list[tuple[Json, int]]:
        return [(pod, port) for pod in group for port in CONTROL_PORTS]

    def up_since(self, root: Json, pods: Sequence[Json]) -> str | None:
        """A StatefulSet has no condition: it counts the pods that are ready."""
        wanted, ready = root["spec"]["replicas"], (root.get("status") or {}).get("readyReplicas", 0)
        times = [time for pod in pods if (time := ready_since(pod)) is not None]
        return max(times) if times and ready >= wanted else None


class StatefulTarget(KubernetesTarget):
    name = "stateful"
    runtimes = ("native", "dynamo")
    platform = StatefulPlatform()
