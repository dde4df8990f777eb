"""Persistent volume claims: whether one can hold a model and be mounted by every worker's node."""

from __future__ import annotations

from manifests.findings import Finding
from operators.targets.dynamo.api import Api, Json

_SHARED = {"ReadWriteMany", "ReadOnlyMany"}
#: Checkpoints hold layers that are not served (multi-token prediction), and files beside the weights.
_BESIDE = 1.03


def find_claim(api: Api, namespace: str, name: str) -> Json | None:
    """The claim, or None."""
    return api.get(f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/{name}")


def judge_claim(claim: Json, needed_bytes: int) -> list[Finding]:
    """What is wrong with a claim for the models of one deployment.

    Args:
        needed_bytes: of the model that it must hold.
    """
    name = claim["metadata"]["name"]
    findings = []
    modes = claim["spec"].get("accessModes") or []
    if not _SHARED & set(modes):
        rule = f"is {', '.join(modes)}: only one node can mount it"
        findings.append(_finding(name, rule, "Make one with access mode ReadWriteMany and name it in the settings"))
    size = claim_bytes(claim)
    needed_bytes = int(needed_bytes * _BESIDE)
    if size < needed_bytes:
        rule = f"has {size / 1e9:.0f} GB where the model takes {needed_bytes / 1e9:.0f} GB"
        larger = f"{-(-needed_bytes * 11 // 10) // 1024**3 + 1}Gi"
        findings.append(_finding(name, rule, f"Enlarge it to {larger}: kubectl edit pvc {name}"))
    if (claim.get("status") or {}).get("phase") == "Lost":
        findings.append(_finding(name, "has lost its volume", "Delete it; the next run makes it anew"))
    return findings


def claim_bytes(claim: Json) -> int:
    """Capacity of its volume; of an unbound claim, what it asks for."""
    from kubernetes.utils.quantity import parse_quantity

    asked = claim["spec"]["resources"]["requests"]["storage"]
    return int(parse_quantity((claim.get("status") or {}).get("capacity", {}).get("storage") or asked))


def _finding(name: str, rule: str, suggestion: str) -> Finding:
    return Finding(field="model_claim", value=name, rule=rule, suggestion=suggestion)
