"""As whom the containers of the project's pods run, and with which rights of the kernel.

Pods beside the engines pass the Pod Security level *restricted*. Workers pass *baseline*, except those that lock memory
for RDMA: IPC_LOCK is on no level's list but *privileged*'s.
"""

from __future__ import annotations

from typing import Any

from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.engines import get_engine
from wideloop.manifests.kubernetes.options import ClusterOptions

#: Pod Security levels, the one that admits most first.
LEVELS = ("privileged", "baseline", "restricted")
Contexts = tuple[dict[str, Any], dict[str, Any]]

#: IPC_LOCK pins memory for GPU direct RDMA, SYS_PTRACE maps other processes' GPU memory inside a node. DAC_OVERRIDE is
#: what root needs to read files of the image's own user. Kubernetes gives added capabilities to root only.
_RDMA_CAPABILITIES = ("IPC_LOCK", "SYS_PTRACE", "DAC_OVERRIDE")
#: What root needs to remove what other users wrote; on the list of *baseline*.
_FILES_OF_OTHERS = ("DAC_OVERRIDE", "FOWNER")
_NO_RIGHTS: dict[str, Any] = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
#: A user without an entry in the image's list of users has no home and no name.
USER_ENV = {"HOME": "/tmp", "USER": "wideloop"}


def pod_profile() -> dict[str, Any]:
    """The part of a pod's security context that holds for every pod."""
    return {"seccompProfile": {"type": "RuntimeDefault"}}


def tool_contexts(user: int) -> Contexts:
    """Security contexts of pod and container for a pod beside the engines; without root, of level *restricted*."""
    if user == 0:
        rights = {"drop": ["ALL"], "add": list(_FILES_OF_OTHERS)}
        return {**pod_profile(), "runAsUser": 0}, {"allowPrivilegeEscalation": False, "capabilities": rights}
    # The group may write what the volume's driver hands over to it; drivers that cannot are left as they are.
    ids = {"runAsUser": user, "runAsGroup": user, "fsGroup": user, "fsGroupChangePolicy": "OnRootMismatch"}
    return {**pod_profile(), "runAsNonRoot": True, **ids}, _copy(_NO_RIGHTS)


def engine_contexts(spec: DeploymentSpec, options: ClusterOptions, *, is_worker: bool) -> Contexts:
    """Security contexts of pod and container for a component of a deployment."""
    if get_engine(spec.engine).simulated:
        return tool_contexts(options.tools_user)
    if not is_worker:
        return pod_profile(), _copy(_NO_RIGHTS)
    user = worker_user(spec, options)
    container = _worker_rights(spec, options) | ({} if user is None else {"runAsUser": user})
    if user:
        container["runAsNonRoot"] = True
    return pod_profile(), {**container, **options.worker_security_context}


def worker_user(spec: DeploymentSpec, options: ClusterOptions) -> int | None:
    """User id of a deployment's workers; None: the image's own."""
    if get_engine(spec.engine).simulated:
        return options.tools_user
    if options.worker_user is not None:
        return options.worker_user
    return 0 if locks_memory(spec) or options.privileged else None


def required_level(spec: DeploymentSpec, options: ClusterOptions) -> tuple[str, str]:
    """The strictest Pod Security level that admits a deployment's workers, and why it is not a stricter one."""
    if options.privileged:
        return "privileged", "they run privileged"
    if options.host_network:
        return "privileged", "they use the host's network"
    if any("hostPath" in volume for volume in options.worker_volumes):
        return "privileged", "they mount folders of the host"
    if locks_memory(spec):
        return "privileged", "they lock memory for RDMA (IPC_LOCK)"
    if get_engine(spec.engine).simulated or options.worker_user:
        return "restricted", "they need no rights"
    return "baseline", "they run as the image's own user"


def locks_memory(spec: DeploymentSpec) -> bool:
    """Whether workers move data between nodes, for which they pin memory."""
    return not get_engine(spec.engine).simulated and spec.hardware.nodes > 1 and spec.hardware.fabric != "none"


def _worker_rights(spec: DeploymentSpec, options: ClusterOptions) -> dict[str, Any]:
    if options.privileged:
        return {"privileged": True}
    rights = _copy(_NO_RIGHTS)
    if locks_memory(spec):
        rights["capabilities"]["add"] = list(_RDMA_CAPABILITIES)
    return rights


def _copy(context: dict[str, Any]) -> dict[str, Any]:
    return {**context, "capabilities": dict(context["capabilities"])}
