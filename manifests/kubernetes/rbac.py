"""The least that the ``dynamo`` target must be allowed: documents to grant it, and the list to ask a cluster for.

Both come from ``rbac.yaml``, so that what is granted and what is checked cannot differ.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

_FILE = Path(__file__).with_name("rbac.yaml")
#: Name of the account and its roles; also the namespace that the file as it lies there is for.
NAME = "wideloop"


class Permission(BaseModel):
    """One verb on one kind of object, as a SelfSubjectAccessReview asks for it.

    ``namespace`` is empty for what belongs to none; ``name`` is empty for all objects of the kind.
    """

    model_config = ConfigDict(frozen=True)

    group: str
    resource: str
    subresource: str
    verb: str
    namespace: str
    name: str = ""

    def __str__(self) -> str:
        kind = self.resource + (f"/{self.subresource}" if self.subresource else "")
        kind += f".{self.group}" if self.group else ""
        return f"{self.verb} {kind}" + (f" {self.name}" if self.name else "")


def documents(namespace: str, secrets: Iterable[str]) -> list[dict[str, Any]]:
    """ServiceAccount, Role, ClusterRole and their bindings for ``namespace``.

    Args:
        secrets: names of the secrets whose content the target reads: hub token, registry credentials.
    """
    found: list[dict[str, Any]] = list(yaml.safe_load_all(_FILE.read_text()))
    for document in found:
        metadata = document["metadata"]
        if "namespace" in metadata:
            metadata["namespace"] = namespace
        if document["kind"] == "ClusterRoleBinding":
            metadata["name"] = f"{NAME}-{namespace}"
        for subject in document.get("subjects", ()):
            subject["namespace"] = namespace
        document |= _rules(document, namespace, secrets)
    return found


def _rules(document: dict[str, Any], namespace: str, secrets: Iterable[str]) -> dict[str, Any]:
    """The rules with names filled in; one about secrets by name that names none would be about all of them."""
    if document["kind"] != "Role":
        return {}
    names = {"namespaces": [namespace], "secrets": sorted(set(secrets))}
    rules = []
    for rule in document["rules"]:
        named = names.get(rule["resources"][0])
        if named is None:
            rules.append(rule)
        elif named:
            rules.append(rule | {"resourceNames": named})
    return {"rules": rules}


def permissions(namespace: str, secrets: Iterable[str]) -> list[Permission]:
    """Everything that :func:`documents` grants, verb by verb."""
    return [
        Permission(
            group=group,
            resource=resource.partition("/")[0],
            subresource=resource.partition("/")[2],
            verb=verb,
            namespace=namespace if document["kind"] == "Role" else "",
            name=name,
        )
        for document in documents(namespace, secrets)
        for rule in document.get("rules", ())
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames", [""])
        for verb in rule["verbs"]
    ]
