"""Pods beside the engines: load generators as Jobs, and the pod that serves a deployment's files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wideloop.manifests.engines.base import Command
from wideloop.manifests.kubernetes import files_server
from wideloop.manifests.kubernetes.labels import labels
from wideloop.manifests.kubernetes.model_cache import model_volume
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.manifests.kubernetes.security import USER_ENV, tool_contexts

Document = dict[str, Any]

FILES = "files"
FILES_PORT = 8080
#: Grace period of the file server, seconds: it has nothing to finish.
_GRACE_S = 1
#: Grace period of a load generator, seconds.
_CLIENT_GRACE_S = 5
#: Time limit of a load generator, longer than any task waits for it: it ends a Job whose task no longer exists.
_CLIENT_LIMIT_S = 3 * 3600


def files_pod_name(deployment: str) -> str:
    """The pod that serves a deployment's files."""
    return f"{deployment}-{FILES}"


def client_job_name(deployment: str, client: str) -> str:
    """Name of a client's Job, the same for every retry."""
    return f"{deployment}-{client}"


def owned_by(document: Document) -> list[Document]:
    """``ownerReferences`` to an object as the API server returned it: dependents are deleted with their owner."""
    metadata = document["metadata"]
    return [
        {
            "apiVersion": document["apiVersion"],
            "kind": document["kind"],
            "name": metadata["name"],
            "uid": metadata["uid"],
        }
    ]


def files_pod(
    deployment: str, options: ClusterOptions, image: str, annotations: Mapping[str, str], *, user: int | None = None
) -> Document:
    """The pod that serves the folder of ``deployment`` on the files claim, see :mod:`files_server`.

    It has no owner reference, because the folder is emptied through this pod after all other objects are deleted.

    Args:
        annotations: the deployment's owner.
        user: who it runs as: the one who writes the files, or root, who may remove those of any; None: as all tools.
    """
    pod_context, context = tool_contexts(options.tools_user if user is None else user)
    server = Path(files_server.__file__).read_text()
    shared = [options.kernel_cache_dir] if options.kernel_cache else []
    container = {
        "name": "main",
        "image": image,
        "command": ["python3", "-c", server, options.files_dir(deployment), str(FILES_PORT), *shared],
        "env": [{"name": files_server.KEY, "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}],
        "ports": [{"name": "http", "containerPort": FILES_PORT}],
        "readinessProbe": {"tcpSocket": {"port": FILES_PORT}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}},
        "volumeMounts": [{"name": "files", "mountPath": options.files_mount}],
        "securityContext": {**context, "readOnlyRootFilesystem": True},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": files_pod_name(deployment),
            "namespace": options.namespace,
            "labels": labels(deployment, component=FILES),
            "annotations": dict(annotations),
        },
        "spec": _pod_spec(options, container, [_claim("files", options.files_claim)])
        | {"terminationGracePeriodSeconds": _GRACE_S, "securityContext": pod_context},
    }


def client_job(
    deployment: str,
    client: str,
    command: Command,
    options: ClusterOptions,
    image: str,
    owner: list[Document],
    *,
    model_path: str = "",
) -> Document:
    """A load generator or collector that runs once; retries are up to the caller.

    Args:
        model_path: where the engines have the model, whose tokenizer it reads.
    """
    model, mount = model_volume(options, model_path)
    pod_context, context = tool_contexts(options.tools_user)
    container = {
        "name": "main",
        "image": image,
        "command": list(command.argv),
        "env": [{"name": name, "value": value} for name, value in sorted({**USER_ENV, **command.env}.items())],
        "resources": {"requests": {"cpu": options.client_cpu, "memory": options.client_memory}},
        "volumeMounts": [
            {"name": "files", "mountPath": options.files_mount},
            {"name": "models", "mountPath": mount, "readOnly": True},
        ],
        "securityContext": context,
    }
    volumes = [_claim("files", options.files_claim), {"name": "models", **model}]
    pod_labels = labels(deployment, client=client)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": client_job_name(deployment, client),
            "namespace": options.namespace,
            "labels": {**options.queue_labels, **pod_labels},
            "ownerReferences": owner,
        },
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": _CLIENT_LIMIT_S,
            "template": {
                "metadata": {"labels": pod_labels},
                "spec": _pod_spec(options, container, volumes)
                | {
                    "restartPolicy": "Never",
                    "terminationGracePeriodSeconds": _CLIENT_GRACE_S,
                    "securityContext": pod_context,
                },
            },
        },
    }


def _claim(name: str, claim: str) -> Document:
    return {"name": name, "persistentVolumeClaim": {"claimName": claim}}


def _pod_spec(options: ClusterOptions, container: Document, volumes: list[Document]) -> Document:
    spec: Document = {"containers": [container], "volumes": volumes, "automountServiceAccountToken": False}
    if options.cpu_node_selector:
        spec["nodeSelector"] = dict(options.cpu_node_selector)
    if options.image_pull_secret:
        spec["imagePullSecrets"] = [{"name": options.image_pull_secret}]
    if options.priority_class:
        spec["priorityClassName"] = options.priority_class
    return spec
