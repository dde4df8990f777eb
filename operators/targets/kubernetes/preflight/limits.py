"""Whether the namespace's quotas leave room for a deployment, and its priority class exists."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from wideloop.manifests.errors import ApiRefused
from wideloop.manifests.findings import Finding
from wideloop.manifests.kubernetes.demand import Demand
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.operators.targets.kubernetes.api import Api
from wideloop.operators.targets.kubernetes.objects import collection
from wideloop.operators.targets.kubernetes.preflight.check_result import CheckResult

_COUNTS = {"pods": 1, "count/pods": 1}
#: Quotas that mean requests without saying so.
_IMPLIED = ("cpu", "memory", "ephemeral-storage")


def check_quota(api: Api, options: ClusterOptions, demands: Sequence[Demand]) -> CheckResult:
    """What is left of each quota, against all pods of the deployment and those beside it."""
    quotas, _ = api.list(collection("v1", "ResourceQuota", options.namespace))
    findings = tuple(f for quota in quotas for f in _judge(quota, demands))
    names = ", ".join(q["metadata"]["name"] for q in quotas)
    return CheckResult("quota", f"{names} leave room" if names else "none in this namespace", findings)


def _judge(quota: Mapping[str, Any], demands: Iterable[Demand]) -> Iterator[Finding]:
    from kubernetes.utils.quantity import parse_quantity

    status = quota.get("status") or {}
    if quota["spec"].get("scopes") or quota["spec"].get("scopeSelector"):
        return  # It counts some pods only; which, the API server knows.
    demands = list(demands)
    for resource, hard in (status.get("hard") or {}).items():
        left = parse_quantity(hard) - parse_quantity((status.get("used") or {}).get(resource, "0"))
        needed = sum((demand.pods * _of_pod(demand, resource) for demand in demands), Decimal(0))
        if needed > left:
            yield Finding(
                field="quota",
                value=quota["metadata"]["name"],
                rule=f"leaves {left} of {hard} {resource}, and the deployment takes {needed.normalize():f}",
                suggestion=f"Raise it: kubectl edit resourcequota {quota['metadata']['name']}; or use fewer GPUs",
            )


def _of_pod(demand: Demand, resource: str) -> Decimal:
    from kubernetes.utils.quantity import parse_quantity

    if resource in _COUNTS:
        return Decimal(_COUNTS[resource])
    kind, _, name = resource.partition(".")
    if resource in _IMPLIED:
        kind, name = "requests", resource
    amounts = {"requests": demand.requests, "limits": demand.limits}.get(kind, {})
    return Decimal(parse_quantity(amounts.get(name, "0")))


def check_priority(api: Api, options: ClusterOptions) -> CheckResult | None:
    """Whether the priority class is there; None when none is named."""
    name = options.priority_class
    if name is None:
        return None
    try:
        document = api.get(f"/apis/scheduling.k8s.io/v1/priorityclasses/{name}")
    except ApiRefused as error:
        if error.status != 403:
            raise
        return CheckResult("priority class", f"may not look at {name}", made=False)
    if document is not None:
        return CheckResult("priority class", f"{name}: {document['value']}")
    rule, action = "does not exist", "Make it, correct the name, or leave priority_class empty"
    return CheckResult(
        "priority class", "missing", (Finding(field="priority_class", value=name, rule=rule, suggestion=action),)
    )
