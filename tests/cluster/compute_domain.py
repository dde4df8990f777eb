"""The definition of NVIDIA's ComputeDomain, with the fields of its API reference (DRA driver for GPUs, v1beta1)."""

from __future__ import annotations

from typing import Any

from wideloop.manifests.kubernetes.compute_domain import GROUP, KIND

_PLURAL = "computedomains"
_CHANNEL = {
    "type": "object",
    "required": ["resourceClaimTemplate"],
    "properties": {
        "allocationMode": {"type": "string", "enum": ["Single", "All"], "default": "Single"},
        "resourceClaimTemplate": {
            "type": "object",
            "required": ["name"],
            "properties": {"name": {"type": "string"}},
        },
    },
}
_SPEC = {
    "type": "object",
    "required": ["channel", "numNodes"],
    "properties": {"numNodes": {"type": "integer"}, "channel": _CHANNEL},
    "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "A ComputeDomain's spec is immutable"}],
}


def definition() -> dict[str, Any]:
    """The CustomResourceDefinition."""
    schema = {"type": "object", "properties": {"spec": _SPEC, "status": {"type": "object"}}}
    version = {"name": "v1beta1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"kind": KIND, "plural": _PLURAL, "singular": KIND.lower(), "listKind": f"{KIND}List"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{_PLURAL}.{GROUP}"},
        "spec": {"group": GROUP, "scope": "Namespaced", "names": names, "versions": [version]},
    }
