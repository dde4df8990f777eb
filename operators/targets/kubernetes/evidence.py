"""What a deployment on a cluster leaves: its pods with nodes and digests, their logs, and its objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wideloop.manifests.kubernetes.labels import selector
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.operators.targets.base import Rank, first_and_last, left_out
from wideloop.operators.targets.kubernetes.api import Api
from wideloop.operators.targets.kubernetes.objects import collection, log_lines
from wideloop.operators.targets.kubernetes.platform import Platform
from wideloop.operators.targets.kubernetes.pods import restarts, role

Json = dict[str, Any]

_MAIN = "main"
#: Lines that are asked for of the end of a log: some 400 KB of an engine's.
_LAST_LINES = 4000
#: Annotation in which kubectl repeats a whole object.
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def ranks(pods: Sequence[Json]) -> tuple[Rank, ...]:
    """Every pod, and once more one whose container was started again."""
    described = []
    for pod in sorted(pods, key=lambda p: p["metadata"]["name"]):
        rank = Rank(
            name=pod["metadata"]["name"],
            component=role(pod) or "",
            node=pod.get("spec", {}).get("nodeName") or "",
            image=_image(pod),
        )
        described.append(rank)
        if restarts(pod):
            described.append(rank.changed(previous=True))
    return tuple(described)


def whole_log(api: Api, namespace: str, rank: Rank, size: int) -> bytes:
    """A log's first and last ``size`` bytes; all of it where it has fewer lines than are asked for of its end."""
    last = log_lines(api, namespace, rank.name, container=_MAIN, tail=_LAST_LINES, previous=rank.previous)
    end = "\n".join(last).encode()
    if len(last) < _LAST_LINES:
        return first_and_last(end, size)
    begin = log_lines(api, namespace, rank.name, container=_MAIN, previous=rank.previous, first_bytes=size)
    return "\n".join(begin).encode() + left_out(None) + end[-size:]


def manifest(api: Api, options: ClusterOptions, platform: Platform, name: str) -> str:
    """The root object and the ConfigMaps of a deployment as YAML."""
    import yaml

    root = api.get(f"{platform.roots(options)}/{name}")
    config_maps, _ = api.list(collection("v1", "ConfigMap", options.namespace), {"labelSelector": selector(name)})
    for config_map in config_maps:  # A list's items do not say what they are.
        config_map.update(apiVersion="v1", kind="ConfigMap")
    documents = [_applied(document) for document in (root, *config_maps) if document is not None]
    return yaml.safe_dump_all(documents, sort_keys=False)


def _applied(document: Json) -> Json:
    """An object without its status and what the API server and controllers note on it."""
    metadata = document["metadata"]
    annotations = {k: v for k, v in (metadata.get("annotations") or {}).items() if k != _LAST_APPLIED}
    kept = {k: metadata[k] for k in ("name", "namespace", "labels") if k in metadata}
    rest = {k: v for k, v in document.items() if k not in ("apiVersion", "kind", "metadata", "status")}
    return {
        "apiVersion": document["apiVersion"],
        "kind": document["kind"],
        "metadata": kept | ({"annotations": annotations} if annotations else {}),
        **rest,
    }


def _image(pod: Json) -> str:
    statuses = pod.get("status", {}).get("containerStatuses") or ()
    image_id = next((s.get("imageID") or "" for s in statuses if s["name"] == _MAIN), "")
    return image_id.rpartition("//")[2]
