"""The pods of a deployment: one template for the frontend and one for each role of workers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from wideloop.manifests.deployment import DeploymentSpec, WorkerSpec
from wideloop.manifests.engines import get_engine
from wideloop.manifests.engines.base import Component, Site
from wideloop.manifests.kubernetes.compute_domain import CHANNEL, channel_template, spans_nvlink
from wideloop.manifests.kubernetes.config import MOUNT, POD_SPEC_KEY, config_map_name, in_pods
from wideloop.manifests.kubernetes.labels import CONFIG_DIGEST, labels
from wideloop.manifests.kubernetes.model_cache import model_volume
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.manifests.kubernetes.scheduling import frontend_placement, worker_placement
from wideloop.manifests.kubernetes.security import USER_ENV, engine_contexts, worker_user

#: Kubernetes expands these references from the variables below, in arguments and in later variables.
_POD_IP, _POD_NAME = "$(POD_IP)", "$(POD_NAME)"


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
    pod: dict[str, Any] = {
        "securityContext": engine_contexts(spec, options, is_worker=worker is not None)[0],
        "containers": [main],
        "volumes": _volumes(spec, options, worker),
    }
    if options.image_pull_secret:
        pod["imagePullSecrets"] = [{"name": options.image_pull_secret}]
    if options.service_account:
        pod["serviceAccountName"] = options.service_account
    if priority_class:
        pod["priorityClassName"] = priority_class
    own_labels, own_annotations = ({}, {}) if worker is None else (options.pod_labels, options.pod_annotations)
    metadata = {
        "labels": {**own_labels, **options.queue_labels, **labels(spec.name, component=component.role)},
        "annotations": {CONFIG_DIGEST: _digest(config), **own_annotations},
    }
    if worker is None:
        return {"metadata": metadata, "spec": pod | frontend_placement(spec, options)}
    return {
        "metadata": metadata,
        "spec": pod | _fabric(spec, options, worker) | worker_placement(spec, options, worker),
    }


def _fabric(spec: DeploymentSpec, options: ClusterOptions, worker: WorkerSpec) -> dict[str, Any]:
    """What a worker's pod needs to reach other nodes: their network, and the channel of an NVLink domain."""
    network = {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"} if options.host_network else {}
    claim = channel_template(spec, options) if spans_nvlink(spec, worker) else None
    if claim is None:
        return network
    return {**network, "resourceClaims": [{"name": CHANNEL, "resourceClaimTemplateName": claim}]}


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
        "env": _env(spec, options, command.env | (options.worker_env if worker else {})),
        "volumeMounts": _mounts(spec, options, worker),
        "resources": _resources(spec, options, worker),
        # The pod's status keeps the last lines of a failed container, whose log may be deleted before it can be read.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        **probes,
    }
    container["securityContext"] = engine_contexts(spec, options, is_worker=worker is not None)[1]
    return container


def _cache_dir(spec: DeploymentSpec, options: ClusterOptions) -> str | None:
    """Folder of compiled kernels on the files claim, one per image and user.

    Kernels depend on the versions in the image, and what one user writes another could not add to.
    """
    if not options.kernel_cache:
        return None
    image = hashlib.sha256(options.image(spec.image).encode()).hexdigest()
    user = worker_user(spec, options)
    return f"{options.kernel_cache_dir}/{image[:12]}" + ("" if user is None else f"-{user}")


#: Tells a stand-in for an engine that the results of its deployment will be marked as simulated.
SIMULATED_VARIABLE = "WIDELOOP_SIMULATED"


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
    values = {**(USER_ENV if get_engine(spec.engine).simulated else {}), **own}
    values |= {SIMULATED_VARIABLE: "true"} if options.simulated else {}
    return env + [{"name": name, "value": value} for name, value in values.items()]


def _from_hub(spec: DeploymentSpec) -> bool:
    """Whether pods download the model by its hub id, instead of finding it in the cache."""
    return not spec.model_path.startswith("/")


def _mounts(spec: DeploymentSpec, options: ClusterOptions, worker: WorkerSpec | None) -> list[dict[str, Any]]:
    own: list[dict[str, Any]] = [
        {key: volume[key] for key in ("name", "mountPath", "readOnly") if key in volume}
        for volume in (options.worker_volumes if worker else ())
    ]
    return [
        {"name": "model", "mountPath": model_volume(options, spec.model_path)[1], "readOnly": not _from_hub(spec)},
        {"name": "files", "mountPath": options.files_mount},
        {"name": "config", "mountPath": MOUNT, "readOnly": True},
        *own,
    ]


def _volumes(spec: DeploymentSpec, options: ClusterOptions, worker: WorkerSpec | None) -> list[dict[str, Any]]:
    own = [
        {key: value for key, value in volume.items() if key not in ("mountPath", "readOnly")}
        for volume in (options.worker_volumes if worker else ())
    ]
    model, _ = model_volume(options, spec.model_path)
    if "persistentVolumeClaim" in model:
        model = {"persistentVolumeClaim": {**model["persistentVolumeClaim"], "readOnly": not _from_hub(spec)}}
    return [
        {"name": "model", **model},
        {"name": "files", "persistentVolumeClaim": {"claimName": options.files_claim}},
        {"name": "config", "configMap": {"name": config_map_name(spec.name)}},
        *own,
    ]


def _resources(spec: DeploymentSpec, options: ClusterOptions, worker: WorkerSpec | None) -> dict[str, Any]:
    if worker is None:
        return {"requests": {"cpu": options.frontend_cpu, "memory": options.frontend_memory}}
    gpus = worker.layout.gpus_per_node
    devices = {spec.hardware.gpu.resource: str(gpus), **options.worker_resources, **_rdma(spec, options, gpus)}
    wanted = {"cpu": options.worker_cpu, "memory": options.worker_memory}
    given = {name: amount for name, amount in wanted.items() if amount is not None}
    resources: dict[str, Any] = {"requests": {**devices, **given}, "limits": devices}
    if spans_nvlink(spec, worker) and channel_template(spec, options):
        resources["claims"] = [{"name": CHANNEL}]
    return resources


def _rdma(spec: DeploymentSpec, options: ClusterOptions, gpus: int) -> dict[str, str]:
    """The RDMA devices of a pod; a worker that shares its only node with the others needs none."""
    resource = spec.hardware.rdma_resource if options.rdma_resource is None else options.rdma_resource
    count = gpus * options.rdma_per_gpu if options.rdma_per_pod is None else options.rdma_per_pod
    return {resource: str(count)} if resource and count and spec.hardware.nodes > 1 else {}


def _digest(config: Mapping[str, str]) -> str:
    """12 hex digits of a ConfigMap's data."""
    text = "\0".join(f"{key}\0{config[key]}" for key in sorted(config))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
