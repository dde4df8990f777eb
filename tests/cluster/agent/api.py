"""The few requests the agent makes to the API server, as plain JSON."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import aiohttp
import yaml

Document = dict[str, Any]

_MERGE = "application/merge-patch+json"
_RETRY_S = 0.2
_RETRIED = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, asyncio.TimeoutError)


class ApiError(Exception):
    """The API server refused; ``status`` is the HTTP status."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status = status


class Api:
    """A client of the API server for one event loop. Requests wait through the server's restarts."""

    def __init__(self, kubeconfig: Path) -> None:
        document = yaml.safe_load(kubeconfig.read_text())
        cluster, user = document["clusters"][0]["cluster"], document["users"][0]["user"]
        self.url: str = cluster["server"]
        self.ca = Path(cluster["certificate-authority"])
        self._token: str = user["token"]
        self._session: aiohttp.ClientSession | None = None
        self._applied: dict[str, Document] = {}

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the API server."""
        parts = urlparse(self.url)
        assert parts.hostname and parts.port
        return parts.hostname, parts.port

    async def __aenter__(self) -> Api:
        connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=self.ca), limit=0)
        headers = {"Authorization": f"Bearer {self._token}"}
        self._session = aiohttp.ClientSession(self.url, connector=connector, headers=headers)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session is not None
        await self._session.close()

    async def request(
        self, method: str, path: str, body: Document | None = None, content_type: str = "application/json"
    ) -> Document:
        """The answer's document; tried again for as long as there is no answer.

        Raises:
            ApiError: an answer with a status of 400 or more.
        """
        assert self._session is not None
        data = None if body is None else json.dumps(body)
        while True:
            try:
                headers = {"Content-Type": content_type}
                async with self._session.request(method, path, data=data, headers=headers) as answer:
                    text = await answer.text()
            except _RETRIED:
                await asyncio.sleep(_RETRY_S)
                continue
            if answer.status in (429, 503):
                await asyncio.sleep(_RETRY_S)
                continue
            if answer.status >= 400:
                raise ApiError(answer.status, text)
            document: Document = json.loads(text)
            return document

    async def get(self, path: str) -> Document:
        return await self.request("GET", path)

    async def find(self, path: str) -> Document | None:
        """The object, None when it does not exist."""
        try:
            return await self.get(path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def create(self, path: str, document: Document) -> Document:
        return await self.request("POST", path, document)

    async def patch(self, path: str, document: Document) -> Document:
        """JSON merge patch."""
        return await self.request("PATCH", path, document, _MERGE)

    async def apply(self, path: str, document: Document, manager: str) -> Document:
        """Server-side apply of a document at its own path, taking over conflicting fields; the object.

        One that was applied like this before is only read: an apply costs the API server ten times as much.
        """
        if self._applied.get(path) == document and (found := await self.find(path)) is not None:
            return found
        query = f"{path}?fieldManager={manager}&force=true"
        made = await self.request("PATCH", query, document, "application/apply-patch+yaml")
        self._applied[path] = document
        return made

    async def delete(self, path: str, body: Document | None = None) -> None:
        """Delete; an object that is not there, or is another by now, is deleted already."""
        try:
            await self.request("DELETE", path, body)
        except ApiError as error:
            if error.status not in (404, 409):
                raise

    async def watch(self, path: str) -> AsyncIterator[tuple[str, Any]]:
        """``("LIST", [object, ...])`` first and after each gap, ``("ADDED"|"MODIFIED"|"DELETED", object)`` between."""
        assert self._session is not None
        while True:
            try:
                listed = await self.get(path)
            except ApiError as error:
                if error.status != HTTPStatus.NOT_FOUND:
                    raise
                await asyncio.sleep(_RETRY_S)  # this version of a custom resource is not served at the moment
                continue
            yield "LIST", listed["items"]
            query = (
                f"{path}{'&' if '?' in path else '?'}watch=true&resourceVersion="
                + listed["metadata"]["resourceVersion"]
            )
            try:
                timeout = aiohttp.ClientTimeout(total=None, sock_read=None)
                async with self._session.get(query, timeout=timeout) as answer:
                    if answer.status != 200:  # a storage that is not ready, a list that is too old
                        await asyncio.sleep(_RETRY_S)
                        continue
                    async for line in _lines(answer):
                        event = json.loads(line)
                        if event["type"] == "ERROR":  # 410 Gone: the list is too old
                            break
                        yield event["type"], event["object"]
            except _RETRIED:
                await asyncio.sleep(_RETRY_S)


async def _lines(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Lines of any length, as objects of several MB are."""
    rest = b""
    async for chunk in answer.content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line
