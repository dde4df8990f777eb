"""One deployment as the cluster shows it at one moment."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from wideloop.manifests.errors import ApiRefused
from wideloop.manifests.kubernetes.jobs import FILES, client_job_name
from wideloop.manifests.kubernetes.labels import CLIENT, DEPLOYMENT, selector
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.operators.targets.kubernetes import pods as pod_facts
from wideloop.operators.targets.kubernetes.api import Api
from wideloop.operators.targets.kubernetes.events import happened
from wideloop.operators.targets.kubernetes.objects import collection
from wideloop.operators.targets.kubernetes.platform import Platform

Json = dict[str, Any]

#: Annotation of the root object: that it has answered a generation, with which pods, and how long that took.
READY = "wideloop/ready"
#: Where the watch alone does not say enough, the API server is asked this often, seconds.
LOOK_EVERY_S = 45.0


def pods(options: ClusterOptions) -> str:
    """The path of all pods."""
    return collection("v1", "Pod", options.namespace)


def jobs(options: ClusterOptions) -> str:
    """The path of all Jobs."""
    return collection("batch/v1", "Job", options.namespace)


def deployment_of(thing: Json) -> str | None:
    """The deployment that an object belongs to."""
    return (thing["metadata"].get("labels") or {}).get(DEPLOYMENT)


@dataclass(frozen=True)
class View:
    """A deployment's objects.

    Attributes:
        root: the root object; None when there is none.
        platform: what manages the pods.
        pods: of its components and of clients, and the one that serves its files.
        jobs: its clients.
        events: about any of these; None when nobody looked.
        gone: pods that were seen to go, as they were last.
        nodes: what is wrong with nodes that are silent by what their pods say, empty when nothing is; nodes that are
            not in it were not looked at.
    """

    name: str
    root: Json | None
    pods: Sequence[Json] = ()
    jobs: Sequence[Json] = ()
    events: Sequence[Json] | None = None
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    gone: Sequence[Json] = ()
    nodes: Mapping[str, str] = field(default_factory=dict)
    platform: Platform = field(kw_only=True)

    @property
    def age_s(self) -> float:
        """Seconds since the root object was made."""
        return pod_facts.age_s(self.root, self.now) if self.root else 0.0

    @property
    def engine_pods(self) -> list[Json]:
        """Pods of the components, but for those that are being deleted."""
        return [p for p in self._of_engines(self.pods) if not pod_facts.is_being_deleted(p)]

    @property
    def deleted_pods(self) -> list[Json]:
        """Pods of the components that are being deleted; those of an earlier root object of that name do not count."""
        return [p for p in self._of_engines(self.pods) if pod_facts.is_being_deleted(p) and self._since_root(p)]

    @property
    def gone_pods(self) -> list[Json]:
        """Pods of the components that were seen to go."""
        return [p for p in self._of_engines(self.gone) if self._since_root(p)]

    @property
    def silent_pods(self) -> list[Json]:
        """Pods of the components whose nodes may be gone."""
        pods = [*self.engine_pods, *self.deleted_pods]
        return [p for p in pods if pod_facts.silent_since(p) or pod_facts.overdue_s(p, self.now) > 0]

    @property
    def files_pod(self) -> Json | None:
        """The pod that serves the deployment's files."""
        return next((p for p in self.pods if pod_facts.role(p) == FILES and not pod_facts.is_being_deleted(p)), None)

    @property
    def signature(self) -> str:
        """Differs once any pod of an engine was replaced or restarted."""
        return pod_facts.signature(self.engine_pods)

    @property
    def up_since(self) -> str | None:
        """When every component was up, by the word of the platform; None when one is not."""
        return self.platform.up_since(self.root, self.engine_pods) if self.root else None

    @property
    def available(self) -> bool:
        """Whether every component is up."""
        return self.up_since is not None

    @property
    def available_s(self) -> float:
        """Seconds since every component is up, those of pods that replaced others too; zero when one is not."""
        up_since = self.up_since
        if up_since is None:
            return 0.0
        times = [up_since, *filter(None, map(pod_facts.ready_since, self.engine_pods))]
        return (self.now - max(map(pod_facts.parse_time, times))).total_seconds()

    @property
    def ready_record(self) -> Json:
        """What :data:`READY` holds; empty when no generation was answered yet."""
        text = ((self.root or {}).get("metadata", {}).get("annotations") or {}).get(READY)
        record: Json = json.loads(text) if text else {}
        return record

    def client_job(self, client: str) -> Json | None:
        """The Job of a client."""
        name = client_job_name(self.name, client)
        return next((j for j in self.jobs if j["metadata"]["name"] == name), None)

    def client_pods(self, client: str) -> list[Json]:
        """Pods of a client, oldest first."""
        of_client = [p for p in self.pods if self.client_of(p) == client]
        return sorted(of_client, key=lambda p: str(p["metadata"]["creationTimestamp"]))

    def _of_engines(self, pods: Sequence[Json]) -> list[Json]:
        return [p for p in pods if pod_facts.role(p) not in (None, FILES) and not self.client_of(p)]

    def _since_root(self, pod: Json) -> bool:
        made = (self.root or {}).get("metadata", {}).get("creationTimestamp", "")
        return bool(pod["metadata"]["creationTimestamp"] >= made)

    @staticmethod
    def client_of(pod: Json) -> str | None:
        """The client that a pod runs, if it runs one."""
        return (pod["metadata"].get("labels") or {}).get(CLIENT)


def look(api: Api, options: ClusterOptions, platform: Platform, name: str, *, clients: bool = False) -> View:
    """Ask the API server: two requests, and one more for ``clients``."""
    query = {"labelSelector": selector(name)}
    root = api.get(f"{platform.roots(options)}/{name}")
    of_deployment, _ = api.list(pods(options), query)
    of_clients = api.list(jobs(options), query)[0] if clients else []
    return View(name, root, of_deployment, of_clients, platform=platform)


def with_events(api: Api, options: ClusterOptions, snapshot: View) -> View:
    """The same with what events say: one request, as no selector knows the objects that an operator makes."""
    if snapshot.root is None:
        return snapshot
    events, _ = api.list(collection("v1", "Event", options.namespace))
    return replace(snapshot, events=about(snapshot.name, snapshot.root, events))


def with_nodes(api: Api, snapshot: View) -> View:
    """The same with what is wrong with nodes that are silent by what their pods say: one request for each."""
    names = {str(p["spec"]["nodeName"]) for p in snapshot.silent_pods if p["spec"].get("nodeName")}
    return replace(snapshot, nodes={name: _wrong_with(api, name) for name in sorted(names)})


def _wrong_with(api: Api, node: str) -> str:
    """Why a node runs no pods; empty when it does."""
    try:
        matching, _ = api.list("/api/v1/nodes", {"fieldSelector": f"metadata.name={node}"})
    except ApiRefused as error:
        if error.status != 403:
            raise
        return "it may not be looked at, and its pods are given up by Kubernetes"
    if not matching:
        return "it is no longer in the cluster"
    conditions = matching[0].get("status", {}).get("conditions") or ()
    up: Json = next((c for c in conditions if c["type"] == "Ready"), {})
    return "" if up.get("status") == "True" else f"{up.get('reason', 'not ready')}: {up.get('message', '')}".strip(": ")


def about(name: str, root: Json, events: Sequence[Json]) -> list[Json]:
    """The events about a deployment's objects, oldest first: all are called after it, and none is older than it."""
    made = root["metadata"]["creationTimestamp"]
    named = ((e, e.get("involvedObject", {}).get("name") or "", happened(e)) for e in events)
    related = [
        (when, e) for e, thing, when in named if when >= made and (thing == name or thing.startswith(f"{name}-"))
    ]
    return [e for _, e in sorted(related, key=lambda pair: pair[0])]
