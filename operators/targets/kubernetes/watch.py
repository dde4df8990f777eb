"""One watch per process on the project's objects in a namespace, however many wait for it.

Each kind has a thread that lists once and then follows the changes. A look at a deployment that is still
starting is answered from here and costs the API server nothing. What is held here may be old while the
connection is down, so nothing but "still going on" is believed without asking.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from typing import Any

from wideloop.manifests.errors import ApiRefused, ApiUnreachable
from wideloop.manifests.kubernetes.labels import selector
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.operators.targets.kubernetes import view
from wideloop.operators.targets.kubernetes.api import Api
from wideloop.operators.targets.kubernetes.platform import Platform
from wideloop.operators.targets.kubernetes.pods import disruption, ended
from wideloop.operators.targets.kubernetes.view import View, deployment_of

Json = dict[str, Any]
_log = logging.getLogger(__name__)

#: Seconds after which the API server ends a watch, so that it is begun anew: a connection that was lost unnoticed is
#: replaced then, and a watch without waiters ends.
_ROUND_S = 120
_PIECE = 1 << 16
_BACKOFF_S = (1.0, 2.0, 5.0, 10.0)
#: Pods of a deployment that are remembered after they went: one for each node of a large one.
_GONE = 32


class WatchExpired(Exception):
    """The API server no longer knows the changes since our resource version (410): list again."""


class Watch:
    """Root objects, pods and Jobs of deployments in one namespace.

    Args:
        platform: whose root objects are watched.
        linger_s: how long it continues without waiters.
    """

    def __init__(self, api: Api, options: ClusterOptions, platform: Platform, *, linger_s: float = 120.0) -> None:
        self._api = api
        self._linger_s = linger_s
        self._platform = platform
        self._kinds = {"roots": platform.roots(options), "pods": view.pods(options), "jobs": view.jobs(options)}
        self._held: dict[str, dict[str, Json]] = {kind: {} for kind in self._kinds}
        self._gone: dict[str, deque[Json]] = defaultdict(lambda: deque(maxlen=_GONE))
        self._synced = dict.fromkeys(self._kinds, False)
        self._changes: dict[str, int] = defaultdict(int)
        self._looked_at: dict[str, int] = {}
        self._waiting: dict[str, set[tuple[asyncio.AbstractEventLoop, asyncio.Event]]] = defaultdict(set)
        self._lock = threading.Lock()
        self._last_wanted = time.monotonic()
        self._threads: dict[str, threading.Thread] = {}

    # ---- for those who wait

    @property
    def synced(self) -> bool:
        """Whether every kind has been listed, and its watch is up as far as we know."""
        return all(self._synced.values())

    def look(self, name: str) -> View | None:
        """The deployment as last seen; None when nothing of it is held, or too old to be worth anything."""
        with self._lock:
            self._looked_at[name] = self._changes[name]
            if not self.synced:
                return None
            root = self._held["roots"].get(name)
            if root is None:
                return None
            pods = [p for p in self._held["pods"].values() if deployment_of(p) == name]
            jobs = [j for j in self._held["jobs"].values() if deployment_of(j) == name]
            gone = tuple(self._gone.get(name, ()))
        return View(name, root, pods, jobs, gone=gone, platform=self._platform)

    async def changed(self, name: str, timeout_s: float) -> None:
        """Return once the deployment has changed since the last :meth:`look` at it, or after ``timeout_s``."""
        self._start()
        happened = asyncio.Event()
        waiter = (asyncio.get_running_loop(), happened)
        with self._lock:
            self._last_wanted = time.monotonic()
            if self._changes[name] != self._looked_at.get(name, 0):
                return
            self._waiting[name].add(waiter)
        try:
            await asyncio.wait_for(happened.wait(), timeout_s)
        except TimeoutError:
            pass
        finally:
            with self._lock:
                self._waiting[name].discard(waiter)
                if not self._waiting[name]:
                    del self._waiting[name]
                self._last_wanted = time.monotonic()

    # ---- the threads

    def _start(self) -> None:
        with self._lock:
            for kind, path in self._kinds.items():
                thread = self._threads.get(kind)
                if thread is None or not thread.is_alive():
                    thread = threading.Thread(target=self._follow, args=(kind, path), name=f"watch {kind}", daemon=True)
                    self._threads[kind] = thread
                    thread.start()

    def _wanted(self) -> bool:
        with self._lock:
            return bool(self._waiting) or time.monotonic() - self._last_wanted < self._linger_s

    def _follow(self, kind: str, path: str) -> None:
        try:
            self._rounds(kind, path)
        finally:
            self._synced[kind] = False

    def _rounds(self, kind: str, path: str) -> None:
        version = ""
        failures = 0
        while self._wanted():
            try:
                version = version or self._list(kind, path)
                self._synced[kind] = True
                began = time.monotonic()
                for newest in self._events(kind, path, version):
                    version = newest
                    failures = 0
                time.sleep(max(0.0, _BACKOFF_S[0] - (time.monotonic() - began)))
            except WatchExpired:
                version = ""
                if failures:  # Listed anew, and gone again before any change: in a loop this would be all lists.
                    time.sleep(_BACKOFF_S[min(failures, len(_BACKOFF_S)) - 1])
                failures += 1
            except (ApiRefused, ApiUnreachable, ValueError) as error:
                self._synced[kind] = False
                pause = _BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)]
                failures += 1
                _log.warning("watch of %s interrupted, again in %.0f s: %s", path, pause, error)
                time.sleep(pause)

    def _list(self, kind: str, path: str) -> str:
        items, version = self._api.list(path, {"labelSelector": selector()})
        by_name = {item["metadata"]["name"]: item for item in items}
        with self._lock:
            names = {deployment_of(item) for item in (*self._held[kind].values(), *items)}
            self._held[kind] = by_name
        self._tell(names)
        return version

    def _events(self, kind: str, path: str, version: str) -> Iterator[str]:
        """Follow one round of changes; yields the resource version after each."""
        query = {
            "watch": "true",
            "labelSelector": selector(),
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": _ROUND_S,
        }
        try:
            with self._api.stream("GET", path, query, timeout_s=_ROUND_S + 10.0) as answer:
                rest = b""
                while piece := answer.read1(_PIECE):
                    *lines, rest = (rest + piece).split(b"\n")
                    for line in filter(None, lines):
                        yield self._take(kind, json.loads(line))
        except ApiRefused as error:
            if error.status == 410:
                raise WatchExpired from error
            raise

    def _take(self, kind: str, event: Json) -> str:
        thing = event.get("object", event)
        if event.get("type") in (None, "ERROR"):
            # 410 in all but rare cases; a new list is the remedy for the others too.
            raise WatchExpired(thing.get("message"))
        metadata = thing["metadata"]
        if event["type"] != "BOOKMARK":
            with self._lock:
                if event["type"] == "DELETED":
                    self._held[kind].pop(metadata["name"], None)
                    self._forget(kind, thing)
                else:
                    self._held[kind][metadata["name"]] = thing
            self._tell({deployment_of(thing)})
        version: str = metadata["resourceVersion"]
        return version

    def _forget(self, kind: str, thing: Json) -> None:
        """Keep a deleted pod that had ended, or was ended from outside: that may not have been looked at since."""
        name = deployment_of(thing)
        if kind == "roots":
            self._gone.pop(thing["metadata"]["name"], None)
        elif kind == "pods" and name is not None and (ended(thing) or disruption(thing)):
            self._gone[name].append(thing)

    def _tell(self, names: set[str | None]) -> None:
        with self._lock:
            for name in names - {None}:
                self._changes[name or ""] += 1
                for loop, happened in self._waiting.get(name or "", ()):
                    loop.call_soon_threadsafe(happened.set)
