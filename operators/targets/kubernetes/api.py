"""Requests to the API server: retried through its restarts, with errors that say what to do.

Objects travel as plain JSON. Typed models would cost seconds to import and know no custom resources.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from wideloop.manifests.errors import ApiRefused, ApiUnreachable, TargetError
from wideloop.operators.targets.kubernetes.connection import Connection, connect

if TYPE_CHECKING:
    from urllib3.response import BaseHTTPResponse

Json = dict[str, Any]

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
_JSON = "application/json"
_CONNECT_S = 10.0
_PAGE = 500
#: Status of a list, or a watch, that began too long ago; and how often one list is begun anew.
_EXPIRED = 410
_RESTARTS = 5
#: Waits between two tries, in seconds; the last one repeats.
_BACKOFF_S = (0.25, 0.5, 1.0, 2.0, 4.0)
#: Answers of a load balancer without an API server behind it, and of an API server that starts, stops or is busy.
_AWAY = frozenset({429, 502, 503, 504})
#: What passes as well but may, when it does not, be about the request: a webhook that does not answer is a 500.
_PASSING = _AWAY | {500}


class Api:
    """One cluster as one user sees it. Safe to share between threads.

    Args:
        kubeconfig, context, conn_id: as in :func:`connect`.
        outage_s: how long the API server may be away before a request gives up.
    """

    def __init__(
        self,
        kubeconfig: Path | None = None,
        context: str | None = None,
        conn_id: str | None = None,
        *,
        outage_s: float = 120.0,
    ) -> None:
        self._named = (kubeconfig, context, conn_id)
        self._outage_s = outage_s
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        #: Requests sent by this object, retries included.
        self.requests = 0

    @property
    def source(self) -> str:
        """Where the connection comes from, for messages."""
        return self._connected().source

    @property
    def credentials_end_at(self) -> datetime | None:
        """When the account's token ends; None where it is renewed or does not say."""
        return self._connected().ends_at

    @property
    def namespace(self) -> str | None:
        """The namespace that the context or the pod names, if any."""
        return self._connected().namespace

    # ---- requests

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> Json | None:
        """An object; None when it does not exist.

        Raises:
            ApiRefused, ApiUnreachable: as :meth:`request`.
        """
        try:
            return self.request("GET", path, query)
        except ApiRefused as error:
            if error.reason == "NotFound":
                return None
            raise

    def list(self, path: str, query: Mapping[str, Any] | None = None) -> tuple[list[Json], str]:
        """All objects of a collection, and the resource version they were current at."""
        items: list[Json] = []
        version = ""
        for page in self.pages(path, query):
            items += page["items"]
            version = page["metadata"]["resourceVersion"]
        return items, version

    def pages(self, path: str, query: Mapping[str, Any] | None = None) -> Iterator[Json]:
        """A collection in pieces of at most ``limit`` objects, for those that would not fit in memory.

        A list that is read slowly expires (410): it is begun anew, and what was given before is left out.
        """
        more: dict[str, Any] = {}
        given: set[tuple[str, str]] = set()
        restarts = 0
        while True:
            try:
                page = self.request("GET", path, {"limit": _PAGE, **(query or {}), **more})
            except ApiRefused as error:
                if error.status != _EXPIRED or not more or restarts == _RESTARTS:
                    raise
                more, restarts = {}, restarts + 1
                continue
            if restarts:
                page["items"] = [item for item in page["items"] if _identity(item) not in given]
            token = page["metadata"].get("continue")
            if token:
                given.update(map(_identity, page["items"]))
            yield page
            if not token:
                return
            more = {"continue": token}

    def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        *,
        content_type: str = _JSON,
    ) -> Json:
        """Send one request that may be sent twice, and return the answer's JSON.

        Raises:
            ApiRefused: the API server refused it.
            ApiUnreachable: it did not answer for ``outage_s``.
        """
        with self.stream(method, path, query, body, content_type=content_type, timeout_s=30.0) as answer:
            text, kind = answer.read(), answer.headers.get("Content-Type", "")
        try:
            document = json.loads(text)
        except ValueError as error:
            raise self._no_api(method, path, answer.status, kind) from error
        if not isinstance(document, dict):
            raise self._no_api(method, path, answer.status, kind)
        return document

    def _no_api(self, method: str, path: str, status: int, kind: str) -> ApiRefused:
        """The error for an answer of something in front of the API server, such as a sign-in page."""
        content_type = kind.partition(";")[0] or "no JSON"
        return ApiRefused(
            method=method,
            path=path,
            status=status,
            reason="NoApi",
            message=f"the answer is {content_type} of something in front of the API server, such as a sign-in page",
            source=self.source,
        )

    @contextlib.contextmanager
    def stream(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        *,
        content_type: str = _JSON,
        timeout_s: float,
        proxied: bool = False,
    ) -> Iterator[BaseHTTPResponse]:
        """The open answer to a request, whose body the caller reads.

        Args:
            timeout_s: between two pieces of the answer.
            proxied: the answer is a pod's. Such a request is not sent again once it may have arrived, and no refusal
                of it says anything about the API server.
        """
        from urllib3.exceptions import HTTPError

        answer = self._send(method, path, query, body, content_type, timeout_s, proxied=proxied)
        try:
            yield answer
        except HTTPError as error:
            raise self._silence(method, path, f"broke off: {error}", proxied=proxied) from error
        finally:
            answer.close()

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None,
        body: Any,
        content_type: str,
        timeout_s: float,
        *,
        proxied: bool,
    ) -> BaseHTTPResponse:
        from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError

        give_up = time.monotonic() + self._outage_s
        renewed = False
        tries = 0
        while True:
            try:
                answer = self._attempt(method, path, query, body, content_type, timeout_s)
            except HTTPError as error:
                again = not proxied or isinstance(error, NewConnectionError | ConnectTimeoutError)
                failure: TargetError = self._silence(method, path, _first(error), proxied=not again)
            else:
                if answer.status < 300:
                    return answer
                failure = refusal = _refusal(method, path, answer, self.source)
                if refusal.status == 401 and not renewed:
                    # Tokens are renewed on disk, and by plugins: look once more before believing it.
                    renewed = True
                    self._connection = None
                    continue
                again = not proxied and (refusal.status in _PASSING or refusal.reason == "NotServed")
                if again and refusal.status in _AWAY:
                    failure = self._silence(method, path, f"HTTP {refusal.status}: {refusal.message}", proxied=False)
            pause = _BACKOFF_S[min(tries, len(_BACKOFF_S) - 1)]
            if not again or time.monotonic() + pause > give_up:
                raise failure
            time.sleep(pause)
            tries += 1

    def _silence(self, method: str, path: str, reason: str, *, proxied: bool) -> TargetError:
        if proxied:
            # It may be the pod that was silent, or the API server between us and the pod.
            return TargetError(f"{method} {path} was not answered: {reason}")
        return ApiUnreachable(self.source, f"{method} {path}: {reason}")

    def _attempt(
        self, method: str, path: str, query: Mapping[str, Any] | None, body: Any, content_type: str, timeout_s: float
    ) -> BaseHTTPResponse:
        from urllib3 import Timeout

        client = self._connected().client
        headers = {"Accept": _JSON, "User-Agent": "wideloop"}
        if body is not None:
            headers["Content-Type"] = content_type
        client.update_params_for_auth(headers, [], ["BearerToken"])
        url = client.configuration.host.rstrip("/") + path
        if query:
            url += ("&" if "?" in path else "?") + urlencode(query)
        self.requests += 1
        answer: BaseHTTPResponse = client.rest_client.pool_manager.request(
            method,
            url,
            body=None if body is None else json.dumps(body),
            headers=headers,
            timeout=Timeout(connect=_CONNECT_S, read=timeout_s),
            retries=False,
            redirect=False,
            preload_content=False,
        )
        return answer

    def _connected(self) -> Connection:
        with self._lock:
            if self._connection is None:
                self._connection = connect(*self._named)
            return self._connection


def _identity(item: Json) -> tuple[str, str]:
    metadata = item["metadata"]
    return metadata.get("namespace") or "", metadata["name"]


def _refusal(method: str, path: str, answer: BaseHTTPResponse, source: str) -> ApiRefused:
    """What the API server answered, as an error. A 404 that names no object is a kind it does not serve (yet)."""
    text = answer.read().decode(errors="replace")
    answer.close()
    try:
        status = json.loads(text)
    except ValueError:
        status = {}
    if not isinstance(status, dict) or status.get("kind") != "Status":
        status = {"reason": "NotServed" if answer.status == 404 else "", "message": text.strip()[:300]}
    return ApiRefused(
        method=method,
        path=path,
        status=answer.status,
        reason=status.get("reason") or "",
        message=status.get("message") or f"HTTP {answer.status}",
        source=source,
    )


def _first(error: Exception) -> str:
    """The text of the innermost error: the outer ones repeat the address."""
    while error.__cause__ is not None and isinstance(error.__cause__, Exception):
        error = error.__cause__
    return str(error) or type(error).__name__
