"""The pods of a deployment: one template for the frontend and one for each role of workers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from wideloop.manifests.deployment import DeploymentSpec, WorkerSpec
from wideloop.manifests.engines import get_engine
from wideloop.manifests.engines.base import Component, Site
from wideloop.manifests.kubernetes.config import MOUNT, POD_SPEC_KEY, config_map_name, in_pods
from wideloop.manifests.kubernetes.labels import CONFIG_DIGEST, labels
from wideloop.manifests.kubernetes.options import ClusterOptions

#: Kubernetes expands these references from the variables below, in arguments and in later variables.
_POD_IP, _POD_NAME = "$(POD_IP)", "$(POD_NAME)"
#: For GPU direct RDMA (pinned memory) and for mapping other processes' GPU memory inside a node.
_CAPABILITIES = ("IPC_LOCK", "SYS_PTRACE")


def pod_template(
    spec: DeploymentSpec,
    options: ClusterOptions,
    component: Component,
    config: Mapping[str, str],
    *,
    ports: Mapping[str, int],
    probes: Mapping[str, Any],
    priority_class: str | None,
) -> dict[str, Any]:
    """A PodTemplateSpec whose container ``main`` runs ``component``.

    Args:
        component: the frontend, or the first worker of a role; replicas have the same template.
        config: the data of the deployment's ConfigMap; when it changes, pods are replaced.
        ports: number of each of the component's port names.
        probes: probes of the container.
        priority_class: priority class of the pod; None without one, or where the root object has it.
    """
    worker = next((w for w in spec.workers if w.role == component.role), None)
    main = _main(spec, options, component, worker, ports, probes)
    pod: dict[str, Any] = {"containers": [main], "volumes": _volumes(spec, options)}
    if options.image_pull_secret:
        pod["imagePullSecrets"] = [{"name": options.image_pull_secret}]
    if options.service_account:
        pod["serviceAccountName"] = options.service_account
    if priority_class:
        pod["priorityClassName"] = priority_class
    placed = _placed_frontend(spec, options) if worker is None else _placed_worker(spec, options, worker)
    metadata = {
        "labels": labels(spec.name, component=component.role),
        "annotations": {CONFIG_DIGEST: _digest(config), **(options.pod_annotations if worker else {})},
    }
    return {"metadata": metadata, "spec": pod | placed}


def _main(
    spec: DeploymentSpec,
    options: ClusterOptions,
    component: Component,
    worker: WorkerSpec | None,
    ports: Mapping[str, int],
    probes: Mapping[str, Any],
) -> dict[str, Any]:
    site = Site(
        python="python3",
        host=_POD_IP,
        ports={port: ports[port] for port in component.ports},
        spec_file=f"{MOUNT}/{POD_SPEC_KEY}",
        work_dir=options.files_dir(spec.name, component.role, _POD_NAME),
        shared_dir=options.files_dir(spec.name, "shared"),
        model_path=spec.model_path,
        options=options.engine_options,
        cache_dir=_cache_dir(spec, options),
    )
    engine = get_engine(spec.engine)
    command = engine.command(in_pods(spec), component, site)
    container: dict[str, Any] = {
        "name": "main",
        "image": options.image(spec.image),
        # Controllers append the ranks of a worker over several nodes to the arguments of a Python command.
        "command": list(command.argv[:3]),
        "args": list(command.argv[3:]),
        "env": _env(spec, options, command.env),
        "volumeMounts": _mounts(spec, options),
        "resources": _resources(spec, options, worker),
        # The pod's status keeps the last lines of a failed container, whose log may be deleted before it can be read.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        **probes,
    }
    if worker is not None and not engine.simulated:
        container["securityContext"] = {"capabilities": {"add": list(_CAPABILITIES)}}
    return container


def _cache_dir(spec: DeploymentSpec, options: ClusterOptions) -> str | None:
    """Folder of compiled kernels on the files claim, one per image: kernels depend on the versions in it."""
    if not options.kernel_cache:
        return None
    image = hashlib.sha256(options.image(spec.image).encode()).hexdigest()
    return f"{options.kernel_cache_dir}/{image[:12]}"


def _env(spec: DeploymentSpec, options: ClusterOptions, own: Mapping[str, str]) -> list[dict[str, Any]]:
    fields = {"POD_NAME": "metadata.name", "POD_IP": "status.podIP"}
    env: list[dict[str, Any]] = [
        {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in fields.items()
    ]
    if _from_hub(spec):
        env.append({"name": "HF_HOME", "value": options.model_mount})
        if options.hf_token_secret:
            token = {"name": options.hf_token_secret, "key": "HF_TOKEN"}
            env.append({"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": token}})
    return env + [{"name": name, "value": value} for name, value in own.items()]


def _from_hub(spec: DeploymentSpec) -> bool:
    """Whether pods download the model by its hub id, instead of finding it in the cache."""
    return not spec.model_path.startswith("/")


def _mounts(spec: DeploymentSpec, options: ClusterOptions) -> list[dict[str, Any]]:
    return [
        {"name": "model", "mountPath": options.model_mount, "readOnly": not _from_hub(spec)},
        {"name": "files", "mountPath": options.files_mount},
        {"name": "config", "mountPath": MOUNT, "readOnly": True},
    ]


def _volumes(spec: DeploymentSpec, options: ClusterOptions) -> list[dict[str, Any]]:
    return [
        {"name": "model", "persistentVolumeClaim": {"claimName": options.model_claim, "readOnly": not _from_hub(spec)}},
        {"name": "files", "persistentVolumeClaim": {"claimName": options.files_claim}},
        {"name": "config", "configMap": {"name": config_map_name(spec.name)}},
    ]


def _resources(spec: DeploymentSpec, options: ClusterOptions, worker: WorkerSpec | None) -> dict[str, Any]:
    if worker is None:
        return {"requests": {"cpu": options.frontend_cpu, "memory": options.frontend_memory}}
    gpus = worker.layout.gpus_per_node
    devices = {spec.hardware.gpu.resource: str(gpus)}
    rdma = spec.hardware.rdma_resource if options.rdma_resource is None else options.rdma_resource
    if rdma and spec.hardware.nodes > 1 and options.rdma_per_gpu:
        devices[rdma] = str(gpus * options.rdma_per_gpu)
    wanted = {"cpu": options.worker_cpu, "memory": options.worker_memory}
    given = {name: amount for name, amount in wanted.items() if amount is not None}
    resources: dict[str, Any] = {"requests": {**devices, **given}, "limits": devices}
    if _spans_nvlink(spec, worker) and options.compute_domain_claim:
        resources["claims"] = [{"name": "compute-domain"}]
    return resources


def _spans_nvlink(spec: DeploymentSpec, worker: WorkerSpec) -> bool:
    return worker.layout.nodes > 1 and spec.hardware.fabric == "NVLink"


def _placed_worker(spec: DeploymentSpec, options: ClusterOptions, worker: WorkerSpec) -> dict[str, Any]:
    placed: dict[str, Any] = {
        "tolerations": [
            {"key": spec.hardware.gpu.resource, "operator": "Exists", "effect": "NoSchedule"},
            *options.tolerations,
        ]
    }
    if options.gpu_node_selector:
        placed["nodeSelector"] = options.gpu_node_selector
    if _spans_nvlink(spec, worker) and options.compute_domain_claim:
        claim = {"name": "compute-domain", "resourceClaimTemplateName": options.compute_domain_claim}
        placed["resourceClaims"] = [claim]
    return placed


def _placed_frontend(spec: DeploymentSpec, options: ClusterOptions) -> dict[str, Any]:
    """Node selection of the frontend: nodes without GPUs where there are some, to leave CPUs to the workers."""
    without = {"key": f"{spec.hardware.gpu.resource}.present", "operator": "NotIn", "values": ["true"]}
    preferred = [{"weight": 100, "preference": {"matchExpressions": [without]}}]
    affinity = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}
    selector = {"nodeSelector": options.cpu_node_selector} if options.cpu_node_selector else {}
    return {"affinity": affinity, **selector}


def _digest(config: Mapping[str, str]) -> str:
    """12 hex digits of a ConfigMap's data."""
    text = "\0".join(f"{key}\0{config[key]}" for key in sorted(config))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
