"""A stand-in for the LeaderWorkerSet controller: groups of pods that come and go as one.

Copied from sigs.k8s.io/lws v0.9 (``pkg/controllers/pod_controller.go``, ``pkg/webhooks/pod_webhook.go``): names and
labels, a StatefulSet of leaders, one of the other nodes owned by each leader, and ``RecreateGroupOnPodRestart``, its
default, which Dynamo's operator leaves as it is: once a container of a group was restarted or a pod of it is being
deleted, the leader is deleted in the foreground, and the garbage collector takes the others with it. There is no
resource of that kind here: who wants a group hands its document over. Revisions, rolling updates, subgroups and gang
scheduling are left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from tests.cluster.agent.api import Api, ApiError

Document = dict[str, Any]
#: Server-side apply of a document in a namespace, with its owner.
Apply = Callable[[Document], Awaitable[Document]]

KIND = "LeaderWorkerSet"
_NAME = "leaderworkerset.sigs.k8s.io/name"
_GROUP = "leaderworkerset.sigs.k8s.io/group-index"
_WORKER = "leaderworkerset.sigs.k8s.io/worker-index"
_ORDINAL = "apps.kubernetes.io/pod-index"
_MANAGER = "lws-stand-in"
_ADMISSION = "/apis/admissionregistration.k8s.io/v1"
_POLL_S = 0.1


class LeaderWorkerSets:
    """Those of a cluster; :meth:`run` does the work once :meth:`admit` was called."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._workers: dict[tuple[str, str], Document] = {}

    async def admit(self) -> None:
        """Have the API server label pods of groups as the controller's webhook does; returns once it does so."""
        policy, binding = _policy()
        await self._api.apply(f"{_ADMISSION}/mutatingadmissionpolicies/{policy['metadata']['name']}", policy, _MANAGER)
        path = f"{_ADMISSION}/mutatingadmissionpolicybindings/{binding['metadata']['name']}"
        await self._api.apply(path, binding, _MANAGER)
        labels = {_NAME: "probe", _ORDINAL: "7"}
        pod = {
            "metadata": {"name": "probe", "labels": labels},
            "spec": {"containers": [{"name": "main", "image": "x"}]},
        }
        while True:
            made = await self._api.create("/api/v1/namespaces/default/pods?dryRun=All", pod)
            if made["metadata"]["labels"].get(_WORKER) == "7":
                return
            await asyncio.sleep(_POLL_S)

    async def apply(self, namespace: str, wanted: Document, apply: Apply) -> Document:
        """Make what stands for the group's resource; its status."""
        name = wanted["metadata"]["name"]
        self._workers[namespace, name] = wanted
        leaders = await apply(_leaders(wanted))
        await apply(_service(wanted))
        for pod in await self._pods(namespace, name):
            await self._look(pod)
        path = f"/apis/apps/v1/namespaces/{namespace}/statefulsets?labelSelector={_NAME}={name},{_GROUP}"
        others = (await self._api.get(path))["items"]
        whole = sum(one.get("status", {}).get("readyReplicas", 0) == one["spec"]["replicas"] for one in others)
        status = leaders.get("status", {})
        return {
            "replicas": status.get("replicas", 0),
            "updatedReplicas": status.get("updatedReplicas", 0),
            "readyReplicas": min(status.get("readyReplicas", 0), whole),
        }

    async def run(self) -> None:
        """Look at a pod whenever it changes."""
        async for kind, found in self._api.watch(f"/api/v1/pods?labelSelector={_NAME}"):
            for pod in found if kind == "LIST" else [found]:
                if kind != "DELETED":
                    await self._look(pod)

    async def _pods(self, namespace: str, name: str) -> list[Document]:
        path = f"/api/v1/namespaces/{namespace}/pods?labelSelector={_NAME}={name}"
        found: list[Document] = (await self._api.get(path))["items"]
        return found

    async def _look(self, pod: Document) -> None:
        metadata = pod["metadata"]
        wanted = self._workers.get((metadata["namespace"], metadata["labels"][_NAME]))
        if wanted is None:
            return
        with contextlib.suppress(ApiError):  # changed or deleted meanwhile, and looked at again for it
            if _restarted(pod) or "deletionTimestamp" in metadata:
                await self._recreate(wanted, pod)
            elif metadata["labels"][_WORKER] == "0":
                await self._add_workers(wanted, pod)

    async def _add_workers(self, wanted: Document, leader: Document) -> None:
        metadata = leader["metadata"]
        made = _workers(wanted, metadata["name"], metadata["labels"][_GROUP], metadata["namespace"])
        made["metadata"]["ownerReferences"] = [_owner("v1", "Pod", metadata)]
        path = f"/apis/apps/v1/namespaces/{metadata['namespace']}/statefulsets/{metadata['name']}"
        if await self._api.find(path) is None:
            await self._api.apply(path, made, _MANAGER)

    async def _recreate(self, wanted: Document, pod: Document) -> None:
        metadata = pod["metadata"]
        leader: Document | None = pod
        if metadata["labels"][_WORKER] != "0":
            name = f"{metadata['labels'][_NAME]}-{metadata['labels'][_GROUP]}"
            leader = await self._api.find(f"/api/v1/namespaces/{metadata['namespace']}/pods/{name}")
            (owner,) = metadata["ownerReferences"]
            workers = await self._api.find(f"/apis/apps/v1/namespaces/{metadata['namespace']}/statefulsets/{name}")
            if leader is None or workers is None or workers["metadata"]["uid"] != owner["uid"]:
                return  # of a group that has been replaced
            if workers["metadata"]["ownerReferences"][0]["uid"] != leader["metadata"]["uid"]:
                return
        if leader is None or "deletionTimestamp" in leader["metadata"]:
            return
        found = leader["metadata"]
        path = f"/api/v1/namespaces/{found['namespace']}/pods/{found['name']}"
        await self._api.delete(path, {"propagationPolicy": "Foreground", "preconditions": {"uid": found["uid"]}})
        said = f"Worker pod {metadata['name']} failed, deleted leader pod {found['name']} to recreate group "
        await self._event(wanted, found["namespace"], said + found["labels"][_GROUP])

    async def _event(self, wanted: Document, namespace: str, message: str) -> None:
        name, moment = wanted["metadata"]["name"], datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        event = {
            "metadata": {"name": f"{name}.{uuid.uuid4().hex[:16]}", "namespace": namespace},
            "involvedObject": {"kind": KIND, "name": name, "namespace": namespace},
            "type": "Normal",
            "reason": "RecreateGroup",
            "message": message,
            "count": 1,
            "firstTimestamp": moment,
            "lastTimestamp": moment,
            "source": {"component": _MANAGER},
        }
        await self._api.create(f"/api/v1/namespaces/{namespace}/events", event)


def group(name: str, labels: dict[str, str], replicas: int, size: int, leader: Document, worker: Document) -> Document:
    """A LeaderWorkerSet of ``replicas`` groups of ``size`` pods; the last two are templates."""
    template = {"size": size, "leaderTemplate": leader, "workerTemplate": worker}
    spec = {"replicas": replicas, "leaderWorkerTemplate": template}
    return {"kind": KIND, "metadata": {"name": name, "labels": labels}, "spec": spec}


def _leaders(wanted: Document) -> Document:
    name, labels, spec = wanted["metadata"]["name"], wanted["metadata"]["labels"], wanted["spec"]
    mine = {_NAME: name, _WORKER: "0"}
    # The variable is the webhook's, which knows the name of the pod.
    template = _told(spec["leaderWorkerTemplate"]["leaderTemplate"], wanted, f"$(POD_NAME).{name}.$(POD_NAMESPACE)")
    made = _stateful_set(name, labels | {_NAME: name}, name, template, mine)
    made["spec"]["replicas"] = spec["replicas"]
    return made


def _workers(wanted: Document, leader: str, index: str, namespace: str) -> Document:
    name, labels, spec = wanted["metadata"]["name"], wanted["metadata"]["labels"], wanted["spec"]
    mine = {_NAME: name, _GROUP: index}
    template = _told(spec["leaderWorkerTemplate"]["workerTemplate"], wanted, f"{leader}.{name}.{namespace}")
    made = _stateful_set(leader, labels | mine, name, template, mine)
    made["spec"] |= {"replicas": spec["leaderWorkerTemplate"]["size"] - 1, "ordinals": {"start": 1}}
    return made


def _told(template: Document, wanted: Document, leader: str) -> Document:
    """A template whose containers know their group."""
    made = copy.deepcopy(template)
    size = str(wanted["spec"]["leaderWorkerTemplate"]["size"])
    index = {"fieldRef": {"fieldPath": f"metadata.labels['{_WORKER}']"}}
    for container in made["spec"]["containers"]:
        container["env"] = [
            *container.get("env", ()),
            {"name": "LWS_LEADER_ADDRESS", "value": leader},
            {"name": "LWS_GROUP_SIZE", "value": size},
            {"name": "LWS_WORKER_INDEX", "valueFrom": index},
        ]
    return made


def _stateful_set(
    name: str, labels: dict[str, str], service: str, template: Document, mine: dict[str, str]
) -> Document:
    template["metadata"]["labels"] = template["metadata"].get("labels", {}) | mine
    spec = {
        "serviceName": service,
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": mine},
        "template": template,
    }
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": name, "labels": labels}, "spec": spec}


def _service(wanted: Document) -> Document:
    """Names exist before the pods are ready: they find each other by them to become so."""
    name, labels = wanted["metadata"]["name"], wanted["metadata"]["labels"]
    spec = {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": {_NAME: name}}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "labels": labels}, "spec": spec}


def _owner(version: str, kind: str, metadata: Document) -> Document:
    owner = {"apiVersion": version, "kind": kind, "name": metadata["name"], "uid": metadata["uid"]}
    return owner | {"controller": True, "blockOwnerDeletion": True}


def _restarted(pod: Document) -> bool:
    status = pod.get("status", {})
    every = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
    return status.get("phase") in ("Pending", "Running") and any(one["restartCount"] for one in every)


def _policy() -> tuple[Document, Document]:
    """What stands for the webhook: the index of a group on leaders, that of a pod in its group on the others."""

    def add(label: str) -> str:
        value = f'object.metadata.labels["{_ORDINAL}"]'
        return f'[JSONPatch{{op: "add", path: "/metadata/labels/" + jsonpatch.escapeKey("{label}"), value: {value}}}]'

    name = "leader-worker-sets"
    pods = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    expression = f'"{_WORKER}" in object.metadata.labels ? {add(_GROUP)} : {add(_WORKER)}'
    policy = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {
                "resourceRules": [pods],
                "objectSelector": {"matchExpressions": [{"key": _NAME, "operator": "Exists"}]},
            },
            "failurePolicy": "Fail",
            "reinvocationPolicy": "Never",
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}],
        },
    }
    binding = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": name},
    }
    return policy, binding
