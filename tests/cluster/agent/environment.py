"""A container's environment and command line, as the kubelet works them out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

Document = dict[str, Any]
#: Data of the ConfigMaps and Secrets a pod names, decoded: ("ConfigMap", name) -> {key: text}; absent if not there.
Sources = Mapping[tuple[str, str], Mapping[str, str]]

_REFERENCE = re.compile(r"\$\$|\$\(([-._a-zA-Z][-._a-zA-Z0-9]*)\)")


class ConfigError(Exception):
    """What a kubelet reports as CreateContainerConfigError."""


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace ``$(NAME)``; ``$$`` is a dollar, and a reference to an unknown name stays as it is."""

    def value(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return variables.get(match[1], match[0])

    return _REFERENCE.sub(value, text)


def command(container: Document, variables: Mapping[str, str]) -> list[str]:
    """``command`` and ``args`` of a container with references replaced.

    Raises:
        ConfigError: neither is given; the images here have no entry point of their own.
    """
    words = [*container.get("command", ()), *container.get("args", ())]
    if not words:
        raise ConfigError("no command specified")
    return [expand(word, variables) for word in words]


def variables(container: Document, pod: Document, sources: Sources, base: Mapping[str, str]) -> dict[str, str]:
    """``envFrom`` and ``env`` on top of ``base``.

    ``pod`` has ``status.podIP`` and ``status.hostIP``. Later entries may refer to earlier ones.

    Raises:
        ConfigError: a ConfigMap, Secret or key that is not optional is not there.
    """
    result = dict(base)
    for source in container.get("envFrom", ()):
        for kind, field in (("ConfigMap", "configMapRef"), ("Secret", "secretRef")):
            if field in source:
                data = _data(kind, source[field], sources)
                result |= {source.get("prefix", "") + key: value for key, value in data.items()}
    for entry in container.get("env", ()):
        value = expand(entry["value"], result) if "value" in entry else _referred(entry, container, pod, sources)
        if value is not None:
            result[entry["name"]] = value
    return result


def devices(container: Document) -> dict[str, str]:
    """What NVIDIA's device plug-in adds for the GPUs that a container asks for."""
    count = int(container.get("resources", {}).get("limits", {}).get("nvidia.com/gpu", 0))
    return {"NVIDIA_VISIBLE_DEVICES": ",".join(f"GPU-{number}" for number in range(count))} if count else {}


def references(pod: Document) -> set[tuple[str, str]]:
    """The ConfigMaps and Secrets the environments of a pod's containers name."""
    found = set()
    for container in [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]:
        places = [
            *container.get("envFrom", ()),
            *(e["valueFrom"] for e in container.get("env", ()) if "valueFrom" in e),
        ]
        for place in places:
            for field, kind in _KINDS.items():
                if field in place:
                    found.add((kind, place[field]["name"]))
    return found


_KINDS = {
    "configMapRef": "ConfigMap",
    "configMapKeyRef": "ConfigMap",
    "secretRef": "Secret",
    "secretKeyRef": "Secret",
}


def _referred(entry: Document, container: Document, pod: Document, sources: Sources) -> str | None:
    origin = entry.get("valueFrom")
    if origin is None:
        return ""
    if "fieldRef" in origin:
        return field(pod, origin["fieldRef"]["fieldPath"])
    if "resourceFieldRef" in origin:
        return _resource(container, origin["resourceFieldRef"]["resource"])
    kind, reference = next((kind, origin[name]) for name, kind in _KINDS.items() if name in origin)
    data = _data(kind, reference, sources)
    if reference["key"] in data:
        return data[reference["key"]]
    if reference.get("optional"):
        return None
    raise ConfigError(
        f"couldn't find key {reference['key']} in {kind} {pod['metadata']['namespace']}/{reference['name']}"
    )


def _data(kind: str, reference: Document, sources: Sources) -> Mapping[str, str]:
    data = sources.get((kind, reference["name"]))
    if data is None and not reference.get("optional"):
        raise ConfigError(f'{kind.lower()} "{reference["name"]}" not found')
    return data or {}


def field(pod: Document, path: str) -> str:
    """A value of the downward API, e.g. ``metadata.labels['x']`` or ``status.podIP``."""
    if match := re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path):
        return str(pod["metadata"].get(match[1], {}).get(match[2], ""))
    if path == "status.podIPs":
        path = "status.podIP"
    value: Any = pod
    for part in path.split("."):
        value = value.get(part, "") if isinstance(value, dict) else ""
    if isinstance(value, dict):
        return "\n".join(f'{key}="{one}"' for key, one in sorted(value.items()))
    return str(value)


def _resource(container: Document, path: str) -> str:
    part, _, name = path.partition(".")
    found: Sequence[Any] = [container.get("resources", {}).get(part, {}).get(name, "0")]
    return str(found[0])
