"""The minimal permissions of a cluster target: documents that grant them, and the list for checking them.

Both come from ``rbac.yaml`` and the target's own :data:`Grants`, so granted and checked permissions cannot
differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

#: Rules of a target by the kind of role that grants them, ``Role`` or ``ClusterRole``.
Grants = Mapping[str, Sequence[Mapping[str, Any]]]

_FILE = Path(__file__).with_name("rbac.yaml")
#: Name of the account and its roles; also the namespace in the file as it ships.
NAME = "wideloop"


class Permission(BaseModel):
    """One verb on one kind of object, as a SelfSubjectAccessReview asks for it.

    ``namespace`` is empty for cluster-wide kinds; ``name`` is empty for all objects of the kind.
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


def read_grants(path: Path) -> Grants:
    """The grants in a YAML file."""
    grants: Grants = yaml.safe_load(path.read_text())
    return grants


def documents(namespace: str, secrets: Iterable[str], grants: Grants) -> list[dict[str, Any]]:
    """ServiceAccount, Role, ClusterRole and their bindings for ``namespace``.

    Args:
        secrets: names of the secrets whose content the target reads: hub token, registry credentials.
        grants: permissions of the target for its root objects.
    """
    every: list[dict[str, Any]] = list(yaml.safe_load_all(_FILE.read_text()))
    for document in every:
        metadata = document["metadata"]
        if "namespace" in metadata:
            metadata["namespace"] = namespace
        if document["kind"] == "ClusterRoleBinding":
            metadata["name"] = f"{NAME}-{namespace}"
        for subject in document.get("subjects", ()):
            subject["namespace"] = namespace
        if "rules" in document:
            document["rules"] = [*grants.get(document["kind"], ()), *_rules(document, namespace, secrets)]
    return every


def _rules(document: dict[str, Any], namespace: str, secrets: Iterable[str]) -> list[Mapping[str, Any]]:
    """The rules with names filled in. A rule about secrets is left out without names: it would cover all."""
    rules: list[Mapping[str, Any]] = document["rules"]
    if document["kind"] != "Role":
        return rules
    names = {"namespaces": [namespace], "secrets": sorted(set(secrets))}
    named_rules: list[Mapping[str, Any]] = []
    for rule in rules:
        named = names.get(rule["resources"][0])
        if named is None:
            named_rules.append(rule)
        elif named:
            named_rules.append({**rule, "resourceNames": named})
    return named_rules


def permissions(namespace: str, secrets: Iterable[str], grants: Grants) -> list[Permission]:
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
        for document in documents(namespace, secrets, grants)
        for rule in document.get("rules", ())
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames", [""])
        for verb in rule["verbs"]
    ]
