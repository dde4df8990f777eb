"""Apply, list and remove deployments; objects that this project did not make are never touched."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.errors import TargetBusy, TargetError
from wideloop.manifests.kubernetes import jobs as documents
from wideloop.manifests.kubernetes.labels import (
    DEPLOYMENT,
    INSTALLATION,
    KEEP_UNTIL,
    OWNER_DAG,
    OWNER_RUN,
    owner_annotations,
    selector,
)
from wideloop.operators.targets.base import Owned, Owner
from wideloop.operators.targets.kubernetes import view
from wideloop.operators.targets.kubernetes.cluster import Cluster
from wideloop.operators.targets.kubernetes.files import Files
from wideloop.operators.targets.kubernetes.objects import apply, collection, delete, path_of, require_ours
from wideloop.operators.targets.kubernetes.pods import in_words, is_being_deleted, parse_time, role

Json = dict[str, Any]
_log = logging.getLogger(__name__)

_POLL_S = 0.5
#: Seconds that an engine may take to end.
_GRACE_S = 10


class Deployments:
    """The deployments in one namespace.

    Args:
        limit: how many may exist at once; None: as many as the cluster takes.
        release_timeout_s: how long pods may take to end.
    """

    def __init__(self, cluster: Cluster, limit: int | None, release_timeout_s: float) -> None:
        self._cluster = cluster
        self._limit = limit
        self._release_timeout_s = release_timeout_s

    def apply(self, spec: DeploymentSpec, owner: Owner, files: Files, *, runs: bool) -> None:
        """Make every object of a deployment, or what is missing of them.

        Args:
            files: of this deployment.
            runs: a deployment of this name exists and has not failed.

        Raises:
            TargetError: it could not be made; nothing of it is left.
        """
        options = self._cluster.options
        keep = owner.keep_until.isoformat() if owner.keep_until else None
        annotations = owner_annotations(owner.dag_id, owner.run_id, keep, owner.installation)
        root, *others = self._cluster.platform.render(spec, options, annotations)
        existing = self._cluster.api.get(path_of(root))
        if existing is not None:
            require_ours(existing)
            if not (runs and self._cluster.spec_of(existing) == spec):
                self.delete(spec.name, files)
                existing = None
        if existing is None:
            self._require_room(spec.name)
        try:
            # First, for it makes the folder that engines write to.
            apply(self._cluster.api, files.server(annotations, spec))
            files.wait_up()
            made = apply(self._cluster.api, root)
            owned_by = documents.owned_by(made)
            for document in others:
                document["metadata"]["ownerReferences"] = owned_by
                apply(self._cluster.api, document)
        except BaseException:
            if existing is None:
                with contextlib.suppress(TargetError):
                    self.delete(spec.name, files)
            raise

    def owned(self) -> list[Owned]:
        """Every deployment of which at least one object exists."""
        things: dict[str, list[Json]] = defaultdict(list)
        for path in self._everything():
            for thing in self._cluster.api.list(path, {"labelSelector": f"{selector()},{DEPLOYMENT}"})[0]:
                things[thing["metadata"]["labels"][DEPLOYMENT]].append(thing)
        return [_owned(name, objects) for name, objects in sorted(things.items())]

    def delete(self, name: str, files: Files) -> None:
        """Remove everything of a deployment; returns when its pods are gone, and with them their GPUs free.

        Raises:
            TargetError: the deployment is foreign, its pods do not end, or its root object is not removed.
        """
        api, options = self._cluster.api, self._cluster.options
        root = f"{self._cluster.platform.roots(options)}/{name}"
        existing = api.get(root) if self._cluster.platform.is_installed(api) else None
        if existing is not None:
            require_ours(existing)
            delete(api, root, propagation="Foreground", uid=existing["metadata"]["uid"])
        query = {"labelSelector": selector(name)}
        for job in api.list(view.jobs(options), query)[0]:
            delete(api, f"{view.jobs(options)}/{job['metadata']['name']}")
        self._wait_gone(name, engines_only=True)
        files.forget(exists=existing is not None)
        for path in (view.pods(options), collection("v1", "ConfigMap", options.namespace)):
            for thing in api.list(path, query)[0]:
                delete(api, f"{path}/{thing['metadata']['name']}")
        self._wait_gone(name, engines_only=False)
        if existing is not None:
            self._wait_root_gone(root, existing["metadata"]["uid"])

    def _wait_root_gone(self, path: str, uid: str) -> None:
        """A root object that is still being deleted would take with it what is made under its name meanwhile."""
        deadline = time.monotonic() + self._release_timeout_s
        while (existing := self._cluster.api.get(path)) is not None and existing["metadata"]["uid"] == uid:
            if time.monotonic() > deadline:
                platform = self._cluster.platform
                blockers = ", ".join(existing["metadata"].get("finalizers") or ()) or "nothing"
                raise TargetError(
                    f"{path.rpartition('/')[2]} is still being deleted after {self._release_timeout_s:.0f} s; it waits "
                    f"for {blockers}. Its pods are gone. Look "
                    f"whether {platform.controller} runs: `{platform.find_controller}`"
                )
            time.sleep(_POLL_S)

    def _wait_gone(self, name: str, *, engines_only: bool) -> None:
        api, path = self._cluster.api, view.pods(self._cluster.options)
        deadline = time.monotonic() + self._release_timeout_s
        while True:
            left = [
                p
                for p in api.list(path, {"labelSelector": selector(name)})[0]
                if not engines_only or role(p) != documents.FILES
            ]
            if not left:
                return
            self._hurry(left)
            if time.monotonic() > deadline:
                raise TargetError(
                    f"{len(left)} pods of {name} did not end within {self._release_timeout_s:.0f} s and hold what they "
                    f"held: {'; '.join(map(in_words, left[:3]))}. Look at their nodes: a lost node ends no pod"
                )
            time.sleep(_POLL_S)

    def _hurry(self, pods: list[Json]) -> None:
        """Shorten the time that pods which are being deleted were given: an engine has nothing to finish.

        Many engines do not hear a polite request before they are up.
        """
        for pod in pods:
            if is_being_deleted(pod) and pod["metadata"].get("deletionGracePeriodSeconds", 0) > _GRACE_S:
                path = f"{view.pods(self._cluster.options)}/{pod['metadata']['name']}"
                delete(self._cluster.api, path, uid=pod["metadata"]["uid"], grace_s=_GRACE_S)

    def _require_room(self, name: str) -> None:
        if self._limit is None:
            return
        others = [o for o in self.owned() if o.name != name]
        if len(others) >= self._limit:
            holder, owner = others[0].name, others[0].owner
            run = f"{owner.dag_id}/{owner.run_id}" if owner else None
            raise TargetBusy(holder, run, owner.keep_until if owner else None)

    def _everything(self) -> Iterator[str]:
        """The paths of all kinds of objects that a deployment consists of."""
        api, options, platform = self._cluster.api, self._cluster.options, self._cluster.platform
        if platform.is_installed(api):
            yield platform.roots(options)
        else:
            _log.warning("%s has no kind %s: %s is not installed there", api.source, platform.kind, platform.controller)
        yield view.jobs(options)
        yield view.pods(options)
        yield collection("v1", "ConfigMap", options.namespace)


def _owned(name: str, things: list[Json]) -> Owned:
    """A deployment by what there is of it; the earliest object's time, and the first annotations that say whose."""
    made = min(parse_time(t["metadata"]["creationTimestamp"]) for t in things)
    notes = [t["metadata"].get("annotations") or {} for t in things]
    ownership = next((n for n in notes if OWNER_DAG in n and OWNER_RUN in n), None)
    if ownership is None:
        return Owned(name=name, owner=None, created_at=made)
    keep = ownership.get(KEEP_UNTIL)
    until = datetime.fromisoformat(keep) if keep else None
    owner = Owner(
        dag_id=ownership[OWNER_DAG],
        run_id=ownership[OWNER_RUN],
        keep_until=until,
        installation=ownership.get(INSTALLATION, ""),
    )
    return Owned(name=name, owner=owner, created_at=made)
