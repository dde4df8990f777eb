"""Persistent volume claims: whether one can hold what it must, and be written from every node."""

from __future__ import annotations

from wideloop.manifests import published_errors
from wideloop.manifests.findings import Finding
from wideloop.operators.targets.kubernetes.api import Api, Json

#: Workers of several nodes write to the one, and the Job that fills or verifies the other may run beside workers.
_SHARED = "ReadWriteMany"


def find_claim(api: Api, namespace: str, name: str) -> Json | None:
    """The claim, or None."""
    return api.get(f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/{name}")


def judge_claim(field: str, claim: Json, needed_bytes: int) -> list[Finding]:
    """What is wrong with a claim.

    Args:
        field: of the options that names it.
        needed_bytes: of the model that it must hold; 0 for the claim of files.
    """
    name = claim["metadata"]["name"]
    findings = []
    modes = claim["spec"].get("accessModes") or []
    if _SHARED not in modes:
        rule = f"is {', '.join(modes)}: it cannot be written from several nodes"
        findings.append(
            _finding(field, name, rule, "Make one with access mode ReadWriteMany and name it in the settings")
        )
    size = claim_bytes(claim)
    if size < needed_bytes:
        rule = f"has {size / 1e9:.0f} GB where the model takes {needed_bytes / 1e9:.0f} GB"
        rule += published_errors.small_claim(size)
        larger = f"{-(-needed_bytes * 11 // 10) // 1024**3 + 1}Gi"
        findings.append(_finding(field, name, rule, f"Enlarge it to {larger}: kubectl edit pvc {name}"))
    if (claim.get("status") or {}).get("phase") == "Lost":
        findings.append(_finding(field, name, "has lost its volume", "Delete it; the next run makes it anew"))
    return findings


def claim_bytes(claim: Json) -> int:
    """Capacity of its volume; of an unbound claim, what it asks for."""
    from kubernetes.utils.quantity import parse_quantity

    requested = claim["spec"]["resources"]["requests"]["storage"]
    return int(parse_quantity((claim.get("status") or {}).get("capacity", {}).get("storage") or requested))


def _finding(field: str, name: str, rule: str, suggestion: str) -> Finding:
    return Finding(field=field, value=name, rule=rule, suggestion=suggestion)
