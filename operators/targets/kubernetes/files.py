"""What engines and clients wrote, brought here through the pod that serves it. A file is whole or not there."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.errors import ApiRefused, TargetError
from wideloop.manifests.kubernetes.jobs import FILES, FILES_PORT, files_pod, files_pod_name
from wideloop.manifests.kubernetes.providers import with_provider
from wideloop.manifests.kubernetes.security import worker_user
from wideloop.operators.targets.kubernetes import container_failures
from wideloop.operators.targets.kubernetes.cluster import Cluster
from wideloop.operators.targets.kubernetes.objects import apply, delete
from wideloop.operators.targets.kubernetes.pods import age_s, has_ended, is_being_deleted, ready, scheduled, waiting
from wideloop.operators.targets.kubernetes.view import pods

Json = dict[str, Any]
_log = logging.getLogger(__name__)

_TRIES = 3
_PIECE = 1 << 20
#: Seconds between two pieces of a file.
_PIECE_S = 60.0
_PAUSE_S = 1.0
_POLL_S = 0.2
#: Seconds that the pod may take to come up again.
_SERVER_S = 120.0
#: Engines are not kept waiting for it for longer than this: they load for minutes before they write anything.
_UP_S = 30.0
#: Seconds in which a pod that cannot be placed, or not started, may still find a place.
_HOPE_S = 15.0
#: What removing a folder may take on slow storage.
_REMOVE_S = 600.0
#: What the API server answers for a pod that it cannot reach: missing, without an address, refusing.
_AWAY = (400, 404, 500, 502, 503)
#: What the pod answers where it was asked with another pod's key.
_WRONG_KEY = 403


class Files:
    """The folder of one deployment on the files claim.

    Args:
        local: the folder here that it is copied to.
    """

    def __init__(self, cluster: Cluster, deployment: str, local: Path) -> None:
        self._cluster = cluster
        self._deployment = deployment
        self._local = local
        pod = f"{pods(cluster.options)}/{files_pod_name(deployment)}"
        self._pod, self._proxy = pod, f"{pod}:{FILES_PORT}/proxy"
        self._key = ""

    def server(self, annotations: dict[str, str], spec: DeploymentSpec | None = None) -> Json:
        """The document of the pod that serves the folder.

        Args:
            spec: of the deployment, to run as the user of its workers; without it, or where only the image knows that
                user, the pod runs as root, who may remove what any user wrote.
        """
        options = self._cluster.options
        user = None if spec is None else worker_user(spec, with_provider(options, spec))
        return files_pod(self._deployment, options, self._cluster.files_image, annotations, user=user or 0)

    def fetch(self, folder: str, *suffixes: str) -> list[Path]:
        """Copy the files below ``folder`` that end with one of ``suffixes`` (none: all), oldest first.

        A file that is here already, as long and as old as there, is not fetched again.

        Raises:
            TargetError: a file could not be brought here whole.
        """
        listed = self._list(folder)
        wanted = sorted((f for f in listed if f["path"].endswith(suffixes or "")), key=lambda f: f["modified"])
        return [self._copy(folder, entry) for entry in wanted]

    def forget(self, folder: str = "", *, exists: bool = True) -> None:
        """Remove a folder, or everything, here and there.

        Args:
            exists: the deployment does, so that a pod which is gone is made again for this; what cannot be reached
                any more stays there.

        Raises:
            TargetError: it takes too long; ask again.
        """
        deadline = time.monotonic() + _SERVER_S
        while True:
            try:
                with self._open("POST", f"/remove/{quote(folder)}", timeout_s=_REMOVE_S) as answer:
                    answer.read()
                break
            except ApiRefused as error:
                if error.status not in _AWAY:
                    raise
                if not exists or time.monotonic() > deadline or not self.bring_back():
                    _log.warning("what %s wrote to %s stays there: %s", self._deployment, folder or "its folder", error)
                    break
            time.sleep(_PAUSE_S)
        shutil.rmtree(self._local / folder, ignore_errors=True)

    def bring_back(self) -> bool:
        """Have the pod made again that is gone, from a node that is; whether one may serve soon."""
        try:
            pod = self._cluster.api.get(self._pod)
            if pod is None:
                apply(self._cluster.api, self.server({}, self._spec()))
                return True
            if has_ended(pod):
                return delete(self._cluster.api, self._pod)
        except ApiRefused as error:
            if error.status not in (403, 404):  # A quota, or a namespace that is being deleted, or gone.
                raise
            return False
        return not _hopeless(pod, _HOPE_S)

    def _spec(self) -> DeploymentSpec | None:
        try:
            return self._cluster.spec(self._deployment)
        except TargetError:
            return None

    def wait_up(self) -> None:
        """Return once the pod serves its folder, or cannot do so soon; the deployment's status gives the reason."""
        deadline = time.monotonic() + _UP_S
        while time.monotonic() < deadline:
            pod = self._cluster.api.get(self._pod)
            if pod is None or ready(pod) or _hopeless(pod, 0.0):
                return
            time.sleep(_POLL_S)

    def local(self, folder: str) -> Path:
        """Where a folder is copied to."""
        return self._local / folder

    def _list(self, folder: str) -> list[Json]:
        """The files below a folder; a pod that is gone, from a node that is, is made again."""
        deadline = time.monotonic() + _SERVER_S
        while True:
            try:
                with self._open("GET", f"/list/{quote(folder)}") as answer:
                    entries: list[Json] = json.loads(answer.read())["files"]
                return entries
            except TargetError as error:
                if not _away(error) or time.monotonic() > deadline:
                    raise
            self.bring_back()
            time.sleep(_PAUSE_S)

    def _copy(self, folder: str, entry: Json) -> Path:
        path = self._inside(folder, entry["path"])
        if path.is_file() and (path.stat().st_size, path.stat().st_mtime) == (entry["bytes"], entry["modified"]):
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.part")
        for left in reversed(range(_TRIES)):
            try:
                self._download(f"/file/{quote(folder)}/{quote(entry['path'])}", part)
                break
            except TargetError as error:
                part.unlink(missing_ok=True)
                if not left:
                    raise TargetError(f"{entry['path']} could not be brought here whole: {error}") from error
                time.sleep(_PAUSE_S)
        os.utime(part, (entry["modified"], entry["modified"]))
        return part.replace(path)

    def _download(self, path: str, part: Path) -> None:
        with self._open("GET", path) as answer, part.open("wb") as file:
            expected = int(answer.headers["Content-Length"])
            for piece in answer.stream(_PIECE):
                file.write(piece)
        if part.stat().st_size != expected:
            raise TargetError(f"got {part.stat().st_size} of {expected} bytes")

    def _inside(self, folder: str, path: str) -> Path:
        """``path`` below the local folder: a path that a pod reports must not lead out of it."""
        root = (self._local / folder).resolve()
        inside = (root / path).resolve()
        if root not in inside.parents:
            raise TargetError(f"{path!r} lies outside {folder}")
        return inside

    @contextmanager
    def _open(self, method: str, path: str, timeout_s: float = _PIECE_S) -> Iterator[Any]:
        """The open answer of the pod; its key is read again where the pod was made again since."""
        with ExitStack() as answers:
            try:
                answer = answers.enter_context(self._ask(method, path, timeout_s))
            except ApiRefused as error:
                if error.status != _WRONG_KEY:
                    raise
                self._key = ""
                answer = answers.enter_context(self._ask(method, path, timeout_s))
            yield answer

    def _ask(self, method: str, path: str, timeout_s: float) -> AbstractContextManager[Any]:
        if not self._key:
            pod = self._cluster.api.get(self._pod)
            self._key = pod["metadata"].get("uid", "") if pod is not None else ""
        query = {"key": self._key}
        return self._cluster.api.stream(method, self._proxy + path, query, timeout_s=timeout_s, proxied=True)


def _away(error: TargetError) -> bool:
    """Whether the pod that serves files is not there, or not up."""
    return not isinstance(error, ApiRefused) or error.status in _AWAY


def _hopeless(pod: Json, after_s: float) -> bool:
    """Whether a pod that is older than ``after_s`` cannot be placed, or not started."""
    if is_being_deleted(pod) or age_s(pod, datetime.now(UTC)) < after_s:
        return False
    wait = waiting(pod)
    stuck = bool(wait) and container_failures.not_started(FILES, wait, patient=False) is not None
    return stuck or has_ended(pod) or scheduled(pod).get("status") == "False"
