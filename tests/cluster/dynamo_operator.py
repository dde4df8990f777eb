"""A stand-in for Dynamo's operator: it turns a DynamoGraphDeployment into Deployments, LeaderWorkerSets and Services.

It is **not** the operator, which cannot be had from a package registry. It does what the operator's API reference
and guide (docs.nvidia.com/dynamo, 1.5) say of names, labels, environment, ports, default probes and status, so that
what is rendered for the operator runs here. Different from it: the components of a graph are Deployments (the
operator's choice without Grove), those over several nodes LeaderWorkerSets as :mod:`tests.cluster.leader_worker_set`
has them; there are no rolling updates and no admission webhook. Its conversion between the versions of a graph is
lossless for what is written as v1alpha1 only.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.cluster import dynamo_pods, leader_worker_set
from tests.cluster.agent.api import Api, ApiError
from tests.cluster.dynamo_conversion import ConversionServer
from tests.cluster.dynamo_crd import GROUP, KIND, PLURAL
from tests.cluster.dynamo_pods import NAME_LABEL
from tests.cluster.leader_worker_set import LeaderWorkerSets
from tests.patience import PATIENCE

Document = dict[str, Any]

_MANAGER = "dynamo-stand-in"
_FINALIZER = "nvidia.com/finalizer"
_ALL = f"/apis/{GROUP}/v1beta1/{PLURAL}"
_DEFINITION = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{PLURAL}.{GROUP}"
_START_S = 30
_APPS = {"Deployment": "deployments", "StatefulSet": "statefulsets"}
_WORKLOADS = ("Deployment", leader_worker_set.KIND)
_PLURALS = _APPS | {
    "Service": "services",
    "ServiceAccount": "serviceaccounts",
    "Role": "roles",
    "RoleBinding": "rolebindings",
}


class DynamoOperator:
    """Reconciles every DynamoGraphDeployment of a cluster, in a thread of its own.

    ``certificate`` and ``key`` are for 127.0.0.1 and signed by what the certificate's file holds.
    """

    def __init__(self, kubeconfig: Path, certificate: Path, key: Path) -> None:
        self._kubeconfig = kubeconfig
        self._conversion = ConversionServer(certificate, key)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="dynamo operator", daemon=True)
        self._works = threading.Event()

    def start(self) -> None:
        """Start; both versions of a graph can be written when this returns."""
        self._thread.start()
        assert self._works.wait(_START_S * PATIENCE), "the operator's stand-in did not start"

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._work.cancel)
        self._thread.join()
        self._loop.close()

    def _run(self) -> None:
        self._work = self._loop.create_task(self._watch())
        with contextlib.suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._work)

    async def _watch(self) -> None:
        """A change of a graph, or of what it is made of, has the graph looked at again."""
        async with Api(self._kubeconfig) as self._api, self._conversion as conversion:
            await self._api.patch(_DEFINITION, {"spec": {"conversion": conversion}})
            self._groups = LeaderWorkerSets(self._api)
            await self._groups.admit()
            self._works.set()
            queue: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
            own = f"?labelSelector={NAME_LABEL}"
            paths = [_ALL, *(f"/apis/apps/v1/{plural}{own}" for plural in _APPS.values())]
            async with asyncio.TaskGroup() as group:
                group.create_task(self._groups.run())
                for path in paths:
                    group.create_task(self._listen(path, queue))
                while True:
                    await self._reconcile(*await queue.get())

    async def _listen(self, path: str, queue: asyncio.Queue[tuple[str, str]]) -> None:
        async for kind, found in self._api.watch(path):
            for one in found if kind == "LIST" else [found]:
                metadata = one["metadata"]
                name = metadata["name"] if path == _ALL else metadata["labels"][NAME_LABEL]
                await queue.put((metadata["namespace"], name))

    async def _reconcile(self, namespace: str, name: str) -> None:
        path = f"/apis/{GROUP}/v1beta1/namespaces/{namespace}/{PLURAL}/{name}"
        graph = await self._api.find(path)
        if graph is None:
            return
        held = graph["metadata"].get("finalizers", [])
        if "deletionTimestamp" in graph["metadata"]:
            # What it is made of goes with it, by owner references.
            await self._finalize(path, graph, [one for one in held if one != _FINALIZER])
            return
        await self._finalize(path, graph, [*held, *{_FINALIZER} - set(held)])
        try:
            documents = dynamo_pods.documents(graph)
            for document in dynamo_pods.shared(graph):
                await self._apply(graph, document)
            statuses = {one: await self._component(graph, made) for one, made in documents.items()}
        except (ApiError, dynamo_pods.Invalid) as error:
            await self._report(path, graph, {}, str(error))
            return
        await self._report(path, graph, statuses, "")

    async def _finalize(self, path: str, graph: Document, finalizers: list[str]) -> None:
        """A graph goes only once its operator has let it, like one of the real one's."""
        if finalizers != graph["metadata"].get("finalizers", []):
            version = graph["metadata"]["resourceVersion"]
            with contextlib.suppress(ApiError):  # changed meanwhile, and looked at again for it
                await self._api.patch(path, {"metadata": {"finalizers": finalizers, "resourceVersion": version}})

    async def _apply(self, graph: Document, document: Document) -> Document:
        """Make one object, owned by its graph."""
        metadata = graph["metadata"]
        owner = {"apiVersion": graph["apiVersion"], "kind": KIND, "name": metadata["name"], "uid": metadata["uid"]}
        made = copy.deepcopy(document)
        made["metadata"] |= {"ownerReferences": [owner | {"controller": True, "blockOwnerDeletion": True}]}
        version = made["apiVersion"]
        prefix = f"/apis/{version}" if "/" in version else f"/api/{version}"
        plural = _PLURALS[made["kind"]]
        path = f"{prefix}/namespaces/{metadata['namespace']}/{plural}/{made['metadata']['name']}"
        return await self._api.apply(path, made, _MANAGER)

    async def _component(self, graph: Document, documents: list[Document]) -> Document:
        """Make the objects of one component; its replicas as the status of a graph has them."""
        *others, workload = sorted(documents, key=lambda one: one["kind"] in _WORKLOADS)
        for document in others:
            await self._apply(graph, document)
        if workload["kind"] == leader_worker_set.KIND:
            namespace = graph["metadata"]["namespace"]
            status = await self._groups.apply(namespace, workload, functools.partial(self._apply, graph))
        else:
            status = (await self._apply(graph, workload)).get("status", {})
        ready, name = status.get("readyReplicas", 0), workload["metadata"]["name"]
        return {
            "componentKind": workload["kind"],
            "componentName": name,
            "componentNames": [name],
            "replicas": status.get("replicas", 0),
            "updatedReplicas": status.get("updatedReplicas", 0),
            "readyReplicas": ready,
            "_missing": workload["spec"]["replicas"] - ready,
        }

    async def _report(self, path: str, graph: Document, components: dict[str, Document], error: str) -> None:
        missing = {name: status.pop("_missing") for name, status in components.items()}
        waiting = [name for name, count in missing.items() if count]
        ready = not waiting and not error
        reason = "all_resources_are_ready" if ready else "failed" if error else "some_resources_are_not_ready"
        message = error or (f"resources not ready: {', '.join(waiting)}" if waiting else "All resources are ready")
        condition = {"type": "Ready", "status": str(ready), "reason": reason, "message": message}
        condition["observedGeneration"] = graph["metadata"]["generation"]
        status = graph.get("status", {})
        before: Document = next((one for one in status.get("conditions", ()) if one["type"] == "Ready"), {})
        changed = before.get("status") != condition["status"]
        condition["lastTransitionTime"] = _now() if changed else before["lastTransitionTime"]
        wanted = {
            "observedGeneration": graph["metadata"]["generation"],
            "state": "successful" if ready else "failed" if error else "pending",
            "conditions": [condition],
            "components": components,
        }
        if all(status.get(key) == value for key, value in wanted.items()):
            return
        with contextlib.suppress(ApiError):  # deleted meanwhile
            await self._api.patch(f"{path}/status", {"status": wanted})


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
