"""Conversion between the versions of a graph, as the webhook that the API server asks."""

from __future__ import annotations

import base64
import json
import ssl
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.cluster.dynamo_alpha import from_alpha, to_alpha

Document = dict[str, Any]

#: Keeps what was written as v1alpha1, so that it is read back as it was.
_WRITTEN = "wideloop.test/written-as-v1alpha1"
_HOST = "127.0.0.1"


class ConversionServer:
    """Serves ConversionReviews for as long as it is entered; that gives the ``spec.conversion`` that leads to it."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._certificate, self._key = certificate, key

    async def __aenter__(self) -> Document:
        application = web.Application(client_max_size=1 << 26)
        application.router.add_post("/convert", _review)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self._certificate, self._key)
        await web.TCPSite(self._runner, _HOST, 0, ssl_context=context).start()
        port = self._runner.addresses[0][1]
        authority = base64.b64encode(self._certificate.read_bytes()).decode()
        client = {"url": f"https://{_HOST}:{port}/convert", "caBundle": authority}
        return {"strategy": "Webhook", "webhook": {"clientConfig": client, "conversionReviewVersions": ["v1"]}}

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()


async def _review(request: web.Request) -> web.Response:
    review = await request.json()
    asked = review["request"]
    converted = [convert(one, asked["desiredAPIVersion"]) for one in asked["objects"]]
    response = {"uid": asked["uid"], "result": {"status": "Success"}, "convertedObjects": converted}
    return web.json_response({**review, "request": None, "response": response})


def convert(graph: Document, version: str) -> Document:
    """``graph`` as the API version ``nvidia.com/v1...``."""
    result = graph | {"apiVersion": version, "metadata": dict(graph["metadata"])}
    annotations = dict(graph["metadata"].get("annotations", {}))
    spec, status = graph.get("spec", {}), dict(graph.get("status", {}))
    if version.endswith("v1beta1"):
        annotations[_WRITTEN] = json.dumps(spec, sort_keys=True)
        result["spec"] = from_alpha(spec)
        _rename(status, "services", "components")
    else:
        written = json.loads(annotations.pop(_WRITTEN, "{}"))
        result["spec"] = written if written and from_alpha(written) == spec else to_alpha(spec)
        _rename(status, "components", "services")
    if annotations or "annotations" in graph["metadata"]:
        result["metadata"]["annotations"] = annotations
    return result | ({"status": status} if status else {})


def _rename(status: Document, old: str, new: str) -> None:
    if old in status:
        status[new] = status.pop(old)
