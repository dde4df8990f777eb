"""The API groups by whose presence Dynamo's operator decides what it makes workers over several nodes with.

Only the groups count, and nothing of these kinds is made here: their objects have any fields.
"""

from __future__ import annotations

from typing import Any

_KINDS = (
    ("leaderworkerset.x-k8s.io", "v1", "LeaderWorkerSet"),
    ("scheduling.volcano.sh", "v1beta1", "PodGroup"),
)


def definitions() -> list[dict[str, Any]]:
    """A CustomResourceDefinition for each."""
    return [_definition(*kind) for kind in _KINDS]


def _definition(group: str, version: str, kind: str) -> dict[str, Any]:
    plural = f"{kind.lower()}s"
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    served = {"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"}
    metadata: dict[str, Any] = {"name": f"{plural}.{group}"}
    # Groups below k8s.io and x-k8s.io are protected.
    metadata["annotations"] = {"api-approved.kubernetes.io": "unapproved, a stand-in of tests"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": metadata,
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [served]},
    }
