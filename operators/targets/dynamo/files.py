"""What engines and clients wrote, brought here through the pod that serves it. A file is whole or not there."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from manifests.errors import ApiRefused, TargetError
from manifests.kubernetes.jobs import FILES_PORT, files_pod, files_pod_name
from operators.targets.dynamo.cluster import Cluster
from operators.targets.dynamo.objects import apply, delete
from operators.targets.dynamo.view import pods

Json = dict[str, Any]

_TRIES = 3
_PIECE = 1 << 20
#: Seconds between two pieces of a file.
_PIECE_S = 60.0
_PAUSE_S = 1.0
#: Seconds that the pod may take to come up again.
_SERVER_S = 120.0
#: What the API server answers for a pod that it cannot reach: missing, without an address, refusing.
_AWAY = (400, 404, 500, 502, 503)


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

    def server(self, annotations: dict[str, str]) -> Json:
        """The document of the pod that serves the folder."""
        return files_pod(self._deployment, self._cluster.options, self._cluster.client_image, annotations)

    def fetch(self, folder: str, *suffixes: str) -> list[Path]:
        """Copy the files below ``folder`` that end with one of ``suffixes`` (none: all), oldest first.

        A file that is here already, as long and as old as there, is not fetched again.

        Raises:
            TargetError: a file could not be brought here whole.
        """
        listed = self._list(folder)
        wanted = sorted((f for f in listed if f["path"].endswith(suffixes or "")), key=lambda f: f["modified"])
        return [self._copy(folder, entry) for entry in wanted]

    def forget(self, folder: str = "") -> None:
        """Remove a folder, or everything, here and there. What cannot be reached any more stays there."""
        try:
            with self._open("POST", f"/remove/{quote(folder)}") as answer:
                answer.read()
        except TargetError as error:
            if not _away(error):
                raise
        shutil.rmtree(self._local / folder, ignore_errors=True)

    def local(self, folder: str) -> Path:
        """Where a folder is copied to."""
        return self._local / folder

    def _list(self, folder: str) -> list[Json]:
        """The files below a folder; a pod that is gone, from a node that is, is made again."""
        deadline = time.monotonic() + _SERVER_S
        while True:
            try:
                with self._open("GET", f"/list/{quote(folder)}") as answer:
                    found: list[Json] = json.loads(answer.read())["files"]
                return found
            except TargetError as error:
                if not _away(error) or time.monotonic() > deadline:
                    raise
            server = self._cluster.api.get(self._pod)
            if server is None:
                apply(self._cluster.api, self.server({}))
            elif server["status"].get("phase") in ("Failed", "Succeeded"):
                delete(self._cluster.api, self._pod)
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
        """``path`` below the local folder: what a pod says must not lead out of it."""
        root = (self._local / folder).resolve()
        found = (root / path).resolve()
        if root not in found.parents:
            raise TargetError(f"{path!r} lies outside {folder}")
        return found

    def _open(self, method: str, path: str) -> Any:
        return self._cluster.api.stream(method, self._proxy + path, timeout_s=_PIECE_S, proxied=True)


def _away(error: TargetError) -> bool:
    """Whether the pod that serves files is not there, or not up."""
    return not isinstance(error, ApiRefused) or error.status in _AWAY
