"""A deployment as documents for Dynamo's operator: a DynamoGraphDeployment and what its pods mount and claim.

Shapes read in the operator's API types, ``deploy/operator/api/{v1beta1,v1alpha1}`` of ai-dynamo/dynamo 1.6. The
operator adds the ranks of a worker over several nodes and, where none is set, how components discover each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wideloop.manifests.deployment import DeploymentSpec, WorkerSpec
from wideloop.manifests.engines import get_engine
from wideloop.manifests.engines.sglang_option_checks import REPEATED
from wideloop.manifests.errors import refuse
from wideloop.manifests.kubernetes.compute_domain import compute_domain
from wideloop.manifests.kubernetes.config import config_map
from wideloop.manifests.kubernetes.demand import Demand, pod_demand
from wideloop.manifests.kubernetes.dynamo.checks import dynamo_findings
from wideloop.manifests.kubernetes.dynamo.names import component_name
from wideloop.manifests.kubernetes.dynamo.ports import PORTS, probes
from wideloop.manifests.kubernetes.labels import FINGERPRINT, labels
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.manifests.kubernetes.pods import pod_template
from wideloop.manifests.kubernetes.providers import with_provider
from wideloop.manifests.kubernetes.rbac import Grants, read_grants

GROUP = "nvidia.com"
KIND = "DynamoGraphDeployment"
#: The simulated engine replaces SGLang; the operator, too, sees an SGLang back end.
_FRAMEWORK = "sglang"


def render(
    spec: DeploymentSpec, options: ClusterOptions, annotations: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """The documents of ``spec``, in the order in which they should be applied.

    The same arguments give the same documents. Placement files named by ``spec`` are read.

    Args:
        annotations: of every document, e.g. the deployment's owner.

    Raises:
        Refused: these options do not allow this deployment, or a placement cannot be read.
    """
    options = with_provider(options, spec)
    # A flag that repeats one of the product's has no effect in a document: the first task of a run refuses it.
    refuse(f for f in dynamo_findings(spec, options) if f.id != REPEATED)
    config = config_map(spec, options)
    templates = _templates(spec, options, config["data"])
    body = _v1beta1 if options.api_version == "v1beta1" else _v1alpha1
    graph = {
        "apiVersion": f"{GROUP}/{options.api_version}",
        "kind": KIND,
        "metadata": {
            "name": spec.name,
            "namespace": options.namespace,
            "labels": labels(spec.name),
            "annotations": {
                FINGERPRINT: spec.fingerprint,
                **({} if options.grove else {"nvidia.com/enable-grove": "false"}),
                **({"nvidia.com/kai-scheduler-queue": options.kai_queue} if options.kai_queue else {}),
            },
        },
        "spec": {
            "backendFramework": _FRAMEWORK,
            # The operator hands them on to everything that it makes, a LeaderWorkerSet among it.
            **({"labels": options.queue_labels} if options.queue_labels else {}),
            **({"priorityClassName": options.priority_class} if options.priority_class and options.grove else {}),
            **body(spec, options, templates),
        },
    }
    documents = [graph, config, *compute_domain(spec, options)]
    for document in documents:
        document["metadata"].setdefault("annotations", {}).update(annotations or {})
    return documents


def demands(graph: Mapping[str, Any]) -> list[Demand]:
    """The pods of a DynamoGraphDeployment v1beta1: one for each node of each replica."""

    def pods(component: Mapping[str, Any]) -> int:
        return int(component["replicas"] * component.get("multinode", {}).get("nodeCount", 1))

    return [pod_demand(c["name"], pods(c), c["podTemplate"]["spec"]) for c in graph["spec"]["components"]]


def grants() -> Grants:
    """Permissions of Airflow's account for DynamoGraphDeployments, beyond those of every cluster target."""
    return read_grants(Path(__file__).with_name("rbac.yaml"))


def _templates(spec: DeploymentSpec, options: ClusterOptions, config: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The pod template of each role."""
    engine = get_engine(spec.engine)
    # Grove takes the priority class from the deployment as a whole.
    priority = None if options.grove else options.priority_class
    templates: dict[str, dict[str, Any]] = {}
    for component in engine.components(spec):
        if component.role not in templates:
            is_worker = _worker(spec, component.role) is not None
            templates[component.role] = pod_template(
                spec,
                options,
                component,
                config,
                ports=PORTS,
                probes=probes(worker=is_worker, simulated=engine.simulated),
                priority_class=priority,
            )
    return templates


def _v1beta1(spec: DeploymentSpec, options: ClusterOptions, templates: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    def component(role: str) -> dict[str, Any]:
        worker = _worker(spec, role)
        version = options.engine_runtime_version
        return {
            "name": component_name(role),
            "type": "worker" if role == "aggregated" else role,
            "replicas": worker.replicas if worker else 1,
            **({"runtimeVersionOverride": version} if version else {}),
            **_multinode(worker),
            **({"sharedMemorySize": options.shared_memory} if worker else {}),
            "podTemplate": templates[role],
        }

    return {"components": [component(role) for role in templates]}


def _v1alpha1(spec: DeploymentSpec, options: ClusterOptions, templates: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The document in API version v1alpha1, which names resources differently and splits the pod into fields."""

    def service(role: str) -> dict[str, Any]:
        worker, template = _worker(spec, role), templates[role]
        pod = dict(template["spec"])
        (main,) = pod.pop("containers")
        main = dict(main)
        probes = {probe: main.pop(probe) for probe in ("livenessProbe", "readinessProbe")}
        resources = {
            kind: amounts if kind == "claims" else _resource_item(amounts, spec.hardware.gpu.resource)
            for kind, amounts in main.pop("resources").items()
        }
        kind = {"componentType": "frontend"} if worker is None else {"componentType": "worker"}
        return {
            **kind,
            **({"subComponentType": role} if role in ("prefill", "decode") else {}),
            "replicas": worker.replicas if worker else 1,
            **_multinode(worker),
            "resources": resources,
            **({"sharedMemory": {"size": options.shared_memory}} if worker else {}),
            **probes,
            "extraPodMetadata": template["metadata"],
            "extraPodSpec": {**pod, "mainContainer": main},
        }

    return {"services": {component_name(role): service(role) for role in templates}}


def _worker(spec: DeploymentSpec, role: str) -> WorkerSpec | None:
    return next((w for w in spec.workers if w.role == role), None)


def _multinode(worker: WorkerSpec | None) -> dict[str, Any]:
    if worker is None or worker.layout.nodes == 1:
        return {}
    return {"multinode": {"nodeCount": worker.layout.nodes}}


def _resource_item(amounts: Mapping[str, str], gpu: str) -> dict[str, Any]:
    names = {"cpu": "cpu", "memory": "memory", gpu: "gpu"}
    item: dict[str, Any] = {names[name]: amount for name, amount in amounts.items() if name in names}
    custom = {name: amount for name, amount in amounts.items() if name not in names}
    return item | ({"custom": custom} if custom else {})
