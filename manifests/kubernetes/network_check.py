"""The Job whose pods try the network between the nodes of a deployment, before any engine does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wideloop.manifests.deployment import DeploymentSpec, WorkerSpec
from wideloop.manifests.engines import get_engine
from wideloop.manifests.kubernetes import network_agent
from wideloop.manifests.kubernetes.labels import MANAGED_BY, MANAGER
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.manifests.kubernetes.pods import pod_template
from wideloop.manifests.kubernetes.providers import with_provider

#: Port that the agent listens on in each pod, and the first of those for lanes.
AGENT_PORT = 29480
LANE_PORT = 29500
#: Seconds after which the cluster ends the Job, whatever became of who made it: it holds the GPUs of its nodes.
LIMIT_S = 1800
_CONTAINER = "main"


def nodes(spec: DeploymentSpec) -> int:
    """How many nodes a deployment's workers lie on, where each pod of a worker has a node of its own."""
    return sum(worker.replicas * worker.layout.nodes for worker in spec.workers)


def documents(spec: DeploymentSpec, options: ClusterOptions, name: str) -> list[dict[str, Any]]:
    """An indexed Job with one pod for each node, in the shape of the worker's: its devices, networks and rights."""
    # With the provider's networks, and without a ComputeDomain: the deployment's own does not exist yet.
    options = with_provider(options, spec).changed(compute_domain=False)
    worker = max(spec.workers, key=lambda worker: worker.layout.gpus_per_node)
    pods = nodes(spec)
    labels = {**options.queue_labels, MANAGED_BY: MANAGER}
    template = _template(spec, options, worker)
    job_spec = {
        "completionMode": "Indexed",
        "completions": pods,
        "parallelism": pods,
        "backoffLimit": 0,
        "activeDeadlineSeconds": LIMIT_S,
        "ttlSecondsAfterFinished": 60,
        "template": {**template, "metadata": {**template["metadata"], "labels": labels}},
    }
    metadata = {"name": name, "namespace": options.namespace, "labels": labels}
    return [{"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": job_spec}]


def _template(spec: DeploymentSpec, options: ClusterOptions, worker: WorkerSpec) -> dict[str, Any]:
    """The worker's pod, with the agent in the place of the engine and without the claims that only the engine reads."""
    component = next(c for c in get_engine(spec.engine).components(spec) if c.role == worker.role)
    ports = {port: AGENT_PORT for port in component.ports}
    template = pod_template(spec, options, component, {}, ports=ports, probes={}, priority_class=options.priority_class)
    pod = template["spec"]
    volumes = [v for v in pod["volumes"] if "persistentVolumeClaim" not in v and "configMap" not in v]
    names = {volume["name"] for volume in volumes}
    main = pod["containers"][0]
    named = {"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}
    agent = {
        "name": _CONTAINER,
        "image": main["image"],
        "command": ["python3", "-c", Path(network_agent.__file__).read_text(), str(AGENT_PORT)],
        "env": [*main["env"], named],
        "volumeMounts": [mount for mount in main["volumeMounts"] if mount["name"] in names],
        "resources": main["resources"],
        **({"securityContext": main["securityContext"]} if "securityContext" in main else {}),
    }
    return {
        **template,
        "spec": {
            **pod,
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
            "containers": [agent],
            "volumes": volumes,
        },
    }
