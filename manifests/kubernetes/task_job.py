"""A Job that runs a task once and reports its result: image builds, smoke tests, downloads of models."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from wideloop.manifests.kubernetes.labels import MANAGED_BY, MANAGER
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.manifests.kubernetes.security import USER_ENV, tool_contexts

Kind = Literal["image", "smoke-test", "weights"]
#: Label with the kind of a task; deployments and their clients have none.
TASK = "wideloop/task"
#: Container of a task's pod.
CONTAINER = "task"
#: File whose content Kubernetes copies into the pod's status when the container ends (its default path, 4096 bytes).
_RESULT = "/dev/termination-log"
RESULT_VARIABLE = "WIDELOOP_RESULT"
ARCH_LABEL = "kubernetes.io/arch"
#: A finished Job is removed by the cluster after this time.
_KEPT_S = 3600
_GRACE_S = 5


class Task(BaseModel):
    """One task.

    Attributes:
        name: name of its Job, equal for equal work, so that a second caller finds the first one's Job.
        command: command that writes its result to the file that ``WIDELOOP_RESULT`` names.
        limit_s: seconds after which the cluster ends it.
        tries: how many pods may try; exit status 1 means that another try would fail too.
        files: small files that the command finds in a folder, mounted at ``files_at`` and named by the
            environment variable ``files_variable``.
        secrets: environment variables from a secret, as ``(variable, secret, key)``.
        security: security contexts of pod and container; None: those of every tool, level *restricted*.
        resources: resources of the container.
        volumes, mounts: further volumes and mounts, beside that of ``files``.
        gpu: resource name of the GPU whose driver it needs, so that it runs on the workers' nodes. Empty for none.
        node_labels: labels of the nodes that it can run on.
    """

    model_config = ConfigDict(frozen=True)

    kind: Kind
    name: str = Field(max_length=63)
    image: str
    command: tuple[str, ...]
    env: Mapping[str, str] = {}
    limit_s: float
    tries: int = 1
    files: Mapping[str, bytes] = {}
    files_at: str = ""
    files_variable: str = ""
    secrets: tuple[tuple[str, str, str], ...] = ()
    security: tuple[Mapping[str, Any], Mapping[str, Any]] | None = None
    resources: Mapping[str, Any] = {}
    volumes: tuple[Mapping[str, Any], ...] = ()
    mounts: tuple[Mapping[str, Any], ...] = ()
    gpu: str = ""
    node_labels: Mapping[str, str] = {}


def task_documents(options: ClusterOptions, task: Task) -> list[dict[str, Any]]:
    """The task's Job, and the ConfigMap with its files when it has any.

    The Job comes first, so that it can own the ConfigMap, which is then deleted with it. Its pod waits for the
    ConfigMap; when the caller ends before making it, the Job ends at its time limit.
    """
    metadata = {
        "name": task.name,
        "namespace": options.namespace,
        "labels": {**options.queue_labels, MANAGED_BY: MANAGER, TASK: task.kind},
    }
    job: dict[str, Any] = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {
            "backoffLimit": task.tries - 1,
            "activeDeadlineSeconds": int(task.limit_s),
            "ttlSecondsAfterFinished": _KEPT_S,
            "template": {"metadata": {"labels": metadata["labels"]}, "spec": _pod(options, task)},
        },
    }
    if task.tries > 1:
        final = {"containerName": CONTAINER, "operator": "In", "values": [1]}
        job["spec"]["podFailurePolicy"] = {"rules": [{"action": "FailJob", "onExitCodes": final}]}
    if not task.files:
        return [job]
    data = {name: base64.b64encode(content).decode() for name, content in task.files.items()}
    return [job, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "binaryData": data}]


def _pod(options: ClusterOptions, task: Task) -> dict[str, Any]:
    volumes, mounts, env = [*task.volumes], [*task.mounts], {**USER_ENV, RESULT_VARIABLE: _RESULT, **task.env}
    if task.files:
        volumes.append({"name": "files", "configMap": {"name": task.name}})
        mounts.append({"name": "files", "mountPath": task.files_at, "readOnly": True})
        env[task.files_variable] = task.files_at
    variables: list[dict[str, Any]] = [{"name": key, "value": value} for key, value in sorted(env.items())]
    variables += [
        {"name": variable, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}
        for variable, secret, key in task.secrets
    ]
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": task.image,
        "command": [*task.command],
        "env": variables,
        "volumeMounts": mounts,
        # The pod's status keeps the last output of a failed command, also when its log is deleted.
        "terminationMessagePath": _RESULT,
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    pod_context, context = task.security or tool_contexts(options.tools_user)
    container["securityContext"] = dict(context)
    if task.resources:
        container["resources"] = dict(task.resources)
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        # A task saves its progress continuously: a grace period would gain nothing.
        "terminationGracePeriodSeconds": _GRACE_S,
        "automountServiceAccountToken": False,
        "securityContext": dict(pod_context),
        "containers": [container],
        "volumes": volumes,
    }
    if options.image_pull_secret:
        pod["imagePullSecrets"] = [{"name": options.image_pull_secret}]
    chosen = options.gpu_node_selector if task.gpu else options.cpu_node_selector
    if selector := {**task.node_labels, **chosen}:
        pod["nodeSelector"] = selector
    if tolerations := _tolerations(options, task):
        pod["tolerations"] = tolerations
    return pod


def _tolerations(options: ClusterOptions, task: Task) -> list[dict[str, Any]]:
    """Of the GPU's taint, and of the one by which some providers keep pods off nodes of another architecture."""
    arch = task.node_labels.get(ARCH_LABEL, "amd64")
    other = {"key": ARCH_LABEL, "operator": "Equal", "value": arch, "effect": "NoSchedule"}
    tolerations = [] if arch == "amd64" else [other]
    if task.gpu:
        gpu = {"key": task.gpu, "operator": "Exists", "effect": "NoSchedule"}
        return [gpu, *options.tolerations, *tolerations]
    return tolerations
