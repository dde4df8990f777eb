"""Rights as documents and as a list."""

from __future__ import annotations

from wideloop.manifests.kubernetes import dynamo
from wideloop.manifests.kubernetes.rbac import documents, permissions


def by_kind(namespace: str, *secrets: str) -> dict[str, dict]:
    return {d["kind"]: d for d in documents(namespace, secrets, dynamo.grants())}


def test_everything_is_for_the_namespace_that_is_given() -> None:
    found = by_kind("team-a", "token")
    assert {d["metadata"].get("namespace", "team-a") for d in found.values()} == {"team-a"}
    assert found["RoleBinding"]["subjects"] == found["ClusterRoleBinding"]["subjects"]
    assert found["ClusterRoleBinding"]["metadata"]["name"] == "wideloop-team-a", "two namespaces do not share one"
    assert found["RoleBinding"]["subjects"][0]["namespace"] == "team-a"


def secret_rules(*secrets: str) -> list[dict]:
    return [r for r in by_kind("n", *secrets)["Role"]["rules"] if "secrets" in r["resources"]]


def test_secrets_are_named_one_by_one_and_none_means_none() -> None:
    assert [r["resourceNames"] for r in secret_rules("b", "a", "b")] == [["a", "b"]]
    assert secret_rules() == []


def test_no_role_has_a_wildcard_and_that_of_the_cluster_changes_nothing() -> None:
    found = by_kind("n", "token")
    for kind in ("Role", "ClusterRole"):
        for rule in found[kind]["rules"]:
            assert "*" not in {*rule["verbs"], *rule["resources"], *rule["apiGroups"]}
    assert {verb for rule in found["ClusterRole"]["rules"] for verb in rule["verbs"]} == {"get", "list"}


def test_the_list_has_every_verb_of_every_rule() -> None:
    asked = permissions("n", ["token"], dynamo.grants())
    assert len(asked) == len(set(asked))
    texts = {str(p) for p in asked}
    assert {"create pods/proxy", "patch dynamographdeployments.nvidia.com", "get secrets token", "list nodes"} <= texts
    assert {p.namespace for p in asked if p.resource == "nodes"} == {""}


def test_what_is_never_asked_for_is_not_granted() -> None:
    texts = {str(p) for p in permissions("n", ["token"], dynamo.grants())}
    assert "list events" in texts
    assert not texts & {"watch events", "list persistentvolumeclaims", "delete persistentvolumeclaims"}
