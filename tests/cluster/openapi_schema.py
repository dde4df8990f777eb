"""Schemas of Kubernetes' own types, as a CustomResourceDefinition may embed them.

A CRD wants one self-contained *structural* schema, so references of the API server's OpenAPI v3 documents are
replaced by what they refer to, and what structural schemas forbid is translated.
"""

from __future__ import annotations

from typing import Any

_PREFIX = "#/components/schemas/"
_KEPT = (
    "type",
    "enum",
    "required",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-map-type",
)
_INT_OR_STRING = {"x-kubernetes-int-or-string": True}


def embedded(document: dict[str, Any], name: str) -> dict[str, Any]:
    """The schema ``name`` of an OpenAPI v3 ``document``, e.g. ``io.k8s.api.core.v1.PodTemplateSpec``."""
    schemas = document["components"]["schemas"]
    return _structural(schemas[name], name, schemas)


def _structural(schema: dict[str, Any], name: str, schemas: dict[str, Any]) -> dict[str, Any]:
    """``schema`` without references; ``name`` is that of the type, empty for an anonymous one."""
    if reference := _reference(schema):
        return _structural(schemas[reference], reference, schemas)
    if name.endswith((".Quantity", ".IntOrString")):
        return dict(_INT_OR_STRING)
    result: dict[str, Any] = {key: schema[key] for key in _KEPT if key in schema}
    if "properties" in schema:
        result["properties"] = {key: _structural(one, "", schemas) for key, one in schema["properties"].items()}
    if "items" in schema:
        result["items"] = _structural(schema["items"], "", schemas)
    if isinstance(schema.get("additionalProperties"), dict):
        result["additionalProperties"] = _structural(schema["additionalProperties"], "", schemas)
    if "x-kubernetes-list-map-keys" in result:
        _key_defaults(result)
    return result


def _reference(schema: dict[str, Any]) -> str | None:
    """The type a schema refers to: directly, or as the only part of an ``allOf`` beside a default."""
    parts = [schema, *schema.get("allOf", [])]
    return next((part["$ref"].removeprefix(_PREFIX) for part in parts if "$ref" in part), None)


def _key_defaults(list_schema: dict[str, Any]) -> None:
    """Keys of a keyed list must be required or have a default; the only optional one of pods is a port's protocol."""
    items = list_schema["items"]
    for key in list_schema["x-kubernetes-list-map-keys"]:
        if key not in items.get("required", []):
            items["properties"][key]["default"] = "TCP"
