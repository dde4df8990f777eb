"""Containers that a node cannot make: their image, their mounts, their devices, their network."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from wideloop.manifests.diagnosis import Diagnosis, FailureKind

Json = dict[str, Any]

#: Waiting reasons of a container whose image cannot be had.
_IMAGE = (
    "ImagePullBackOff",
    "ErrImagePull",
    "InvalidImageName",
    "ErrImageNeverPull",
    "RegistryUnavailable",
    "ImageInspectError",
    "SignatureValidationFailed",
)
#: Waiting reasons of a container that was pulled, and could not be made.
_CONTAINER = (
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "PreCreateHookError",
    "PreStartHookError",
    "PostStartHookError",
)
#: What passes by itself: caches of a node that starts, its busy runtime, a registry that is away or limits its rate.
_PASSING = re.compile(
    r"failed to sync \w+ cache|timed out waiting for the condition|context deadline exceeded|name \S+ is reserved|"
    r"is reserved for|toomanyrequests|\b429\b|\b50[0234]\b|Too Many Requests|rate limit|i/o timeout|TLS handshake|"
    r"connection (?:reset|refused)|unexpected EOF|temporar|try again|server is currently unable|DeadlineExceeded",
    re.IGNORECASE,
)
_NEVER = re.compile(
    r"not found|manifest unknown|unauthorized|denied|forbidden|InvalidImageName|invalid reference|"
    r"no match for platform|"
    r"x509|exec format|signature",
    re.IGNORECASE,
)


class Remedy(NamedTuple):
    """What a node's words mean, and what to do."""

    pattern: str
    kind: FailureKind
    action: str


_IMAGES = (
    Remedy(
        r"no match for platform|platform|exec format|architecture",
        "image_unavailable",
        "The image is not there for the architecture of this node: build it for it (arm64 for GB200), or select others",
    ),
    Remedy(
        r"no space left|disk",
        "image_unavailable",
        "The node's disk is full: free it (`crictl rmi --prune`), or choose nodes with room for images of 30 GB",
    ),
    Remedy(
        r"toomanyrequests|rate limit|\b429\b|Too Many Requests",
        "image_unavailable",
        "The registry's rate limit is reached: log in by WIDELOOP_CLUSTER__IMAGE_PULL_SECRET, use a mirror, or wait",
    ),
    Remedy(
        r"x509|certificate|http: server gave HTTP response to HTTPS",
        "image_unavailable",
        "The node does not trust the registry's certificate: install its authority on the nodes, or use another "
        "registry",
    ),
    Remedy(
        "",
        "image_unavailable",
        "Check that the image was built and pushed (run wideep_image), its name, and "
        "WIDELOOP_CLUSTER__IMAGE_PULL_SECRET",
    ),
)
_CONTAINERS = (
    Remedy(
        r"nvidia-container|nvml|driver not loaded|no runtime for|libnvidia|unresolvable CDI|CDI device|/dev/nvidia|"
        r"nvidia-smi|unknown runtime|RuntimeClass|could not select device driver",
        "node_lost",
        "The driver or container toolkit of that node is at fault: look at it, cordon it, and try again",
    ),
    Remedy(
        r"exec format|no such file or directory.{0,40}unknown|executable file not found|"
        r"permission denied.{0,20}unknown",
        "image_unavailable",
        "The program of the container is not in the image, or is for another architecture: check the image",
    ),
    Remedy(
        r"no space left|disk quota",
        "node_lost",
        "The node's disk is full: free it, or cordon it and try again",
    ),
    Remedy(
        r"runAsNonRoot|will run as root|non-numeric user",
        "bad_configuration",
        "The pod may not run as the image's user: set a numeric user in the image, or allow it in the pod's "
        "security context",
    ),
    Remedy(
        "",
        "bad_configuration",
        "A secret, ConfigMap, command or mount of the pod is not there: make it, then apply again",
    ),
)
#: By the reason and message of an event.
_EVENTS = (
    Remedy(
        r"^(?:FailedMount|FailedAttachVolume|FailedMapVolume|VolumeFailed|FailedBinding|ProvisioningFailed|Volume\w*|"
        r"FileSystemResizeFailed)\b",
        "storage_unavailable",
        "Check the claims with `kubectl get pvc`, and that their class can be mounted by many nodes at once",
    ),
    Remedy(
        r"^(?:FailedPrepareDynamicResources|.*DRA|.*ResourceClaim|.*compute-?domain)",
        "bad_configuration",
        "Check that the DRA driver (dra-driver-nvidia-gpu) runs on that node and that the ComputeDomain exists",
    ),
    Remedy(
        r"^NetworkNotReady|network (?:plugin )?(?:is )?not (?:ready|initialized)|cni plugin not initialized",
        "node_lost",
        "The network of that node is not up: look at its CNI pods, cordon it and try again",
    ),
    Remedy(
        r"^FailedCreatePodSandBox.*(?:multus|sriov|IPAM|ip addresses|network|cni|rdma)|"
        r"^FailedCreatePodSandBox.*plugin type",
        "bad_configuration",
        "Check the networks that the pod is attached to (WIDELOOP_CLUSTER__POD_ANNOTATIONS), their address range, "
        "and the "
        "network plugins of that node",
    ),
    Remedy(
        r"^FailedCreatePodSandBox|^FailedCreatePodContainer|^FailedPodSandBoxStatus",
        "node_lost",
        "The container runtime of that node is at fault: look at it, cordon it and try again",
    ),
    Remedy("", "bad_configuration", "Change what the node's message names; `kubectl describe pod` shows the pod"),
)


def may_pass(text: str) -> bool:
    """Whether a node's complaint often passes by itself within minutes."""
    return bool(_PASSING.search(text))


def not_started(component: str, wait: Json, *, patient: bool) -> Diagnosis | None:
    """A container that cannot be made. ``patient``: what may pass is given time."""
    reason, message = wait["reason"], wait.get("message") or ""
    text = f"{reason} {message}"
    if reason not in (*_IMAGE, *_CONTAINER):
        return None
    passes = may_pass(text) or (reason in _IMAGE and not _NEVER.search(text))
    if patient and passes:
        return None
    return _diagnosis(component, f"{reason}: {message}", _IMAGES if reason in _IMAGE else _CONTAINERS, message)


def not_created(component: str, event: Json) -> Diagnosis:
    """A pod of which a node complains while it makes it."""
    reason, message = str(event.get("reason")), str(event.get("message") or "")
    shown = f"its node cannot make it: {reason}: {message}"
    if reason in ("FailedMount", "FailedAttachVolume", "FailedMapVolume"):
        shown = f"its volumes are not mounted: {reason}: {message}"
    return _diagnosis(component, shown, _EVENTS, f"{reason} {message}")


def _diagnosis(component: str, shown: str, remedies: tuple[Remedy, ...], text: str) -> Diagnosis:
    remedy = next(r for r in remedies if re.search(r.pattern, text, re.IGNORECASE | re.DOTALL))
    return Diagnosis(kind=remedy.kind, component=component, message=shown, action=remedy.action)
