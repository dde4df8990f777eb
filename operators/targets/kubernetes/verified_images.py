"""What is remembered of images on the cluster itself: each is built and smoke-tested once, whoever asks next."""

from __future__ import annotations

import json
from collections.abc import Sequence

from wideloop.manifests.kubernetes.labels import MANAGED_BY, MANAGER
from wideloop.operators.targets.kubernetes.api import Api, Json
from wideloop.operators.targets.kubernetes.objects import apply, require_ours

_NAME = "wideloop-images"


class VerifiedImages:
    """A ConfigMap: digests by a build's inputs, versions by digest.

    It is only a memory: an entry that is lost, by hand or by two writers at once, costs doing the work again.
    """

    def __init__(self, api: Api, namespace: str) -> None:
        self._api = api
        self._document: Json = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": _NAME, "namespace": namespace, "labels": {MANAGED_BY: MANAGER}},
        }
        self._path = f"/api/v1/namespaces/{namespace}/configmaps/{_NAME}"

    def built(self, inputs: str) -> str | None:
        """The digest that these inputs gave."""
        return self._read().get(f"inputs-{inputs}")

    def note_built(self, inputs: str, digest: str) -> None:
        self._write(f"inputs-{inputs}", digest)

    def versions(self, digest: str, imports: Sequence[str]) -> dict[str, str] | None:
        """What a smoke test recorded of an image; None when it has not imported all of ``imports`` there."""
        record = self.record(digest)
        return record if record and set(imports) <= set(record) else None

    def record(self, digest: str) -> dict[str, str]:
        """Everything that was recorded of an image: versions by module, and facts by name; empty for an unknown one."""
        text = self._read().get(_key(digest))
        record: dict[str, str] = json.loads(text) if text else {}
        return record

    def note(self, digest: str, versions: dict[str, str]) -> None:
        self._write(_key(digest), json.dumps(versions))

    def _read(self) -> dict[str, str]:
        config_map = self._api.get(self._path)
        if config_map is None:
            return {}
        require_ours(config_map)
        return dict(config_map.get("data") or {})

    def _write(self, key: str, value: str) -> None:
        apply(self._api, {**self._document, "data": {**self._read(), key: value}})


def _key(digest: str) -> str:
    return digest.replace(":", "-")
