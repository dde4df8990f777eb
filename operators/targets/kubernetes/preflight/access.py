"""Whether the API server lets us in, has our namespace, and lets us do what we need."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from wideloop.manifests.errors import ApiRefused
from wideloop.manifests.findings import Finding
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.manifests.kubernetes.rbac import Grants, Permission, permissions
from wideloop.operators.targets.kubernetes.api import Api
from wideloop.operators.targets.kubernetes.preflight.check_result import CheckResult

_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_AT_ONCE = 8
#: A cycle with a large model takes hours.
_SHORT = timedelta(hours=12)


def check_account(api: Api, options: ClusterOptions, grants: Grants) -> list[Finding]:
    """What of access, namespace and permissions is missing, before anything about a deployment is looked at."""
    results = [check_access(api)]
    if results[0].state != "error":
        results += [check_namespace(api, options.namespace), check_permissions(api, options, grants)]
    return [finding for result in results for finding in result.findings]


def check_access(api: Api) -> CheckResult:
    """The API server's version, or why it does not let us in.

    Raises:
        ApiUnreachable: it does not answer, which may pass: no finding about the deployment.
    """
    try:
        version = api.request("GET", "/version")
        # The version is told to anyone; who we are is known only after a request that asks for it.
        _allowed(api, Permission(group="", resource="pods", subresource="", verb="list", namespace="default"))
    except ApiRefused as error:
        action = "Log in again, or give another file" if error.status == 401 else "Ask the cluster's administrator"
        return CheckResult("API server", "refuses us", (_unusable(str(error), action),))
    until, findings = _token_findings(api.credentials_end_at, datetime.now(UTC))
    return CheckResult("API server", f"Kubernetes {version['gitVersion']}, {api.source}{until}", findings)


def _token_findings(ends_at: datetime | None, now: datetime) -> tuple[str, tuple[Finding, ...]]:
    """How long the account's token is good for, and a warning where a cycle may outlive it."""
    if ends_at is None:
        return "", ()
    left = ends_at - now
    until = f"; its token ends in {left.total_seconds() / 3600:.1f} h"
    if left > _SHORT:
        return until, ()
    rule = (
        f"its token ends at {ends_at:%Y-%m-%d %H:%M} UTC and is not renewed: deployments that are up then can be "
        "removed neither by their run nor by wideep_janitor, and keep their GPUs"
    )
    works = "Make one that lasts longer than the cycle (kubectl create token --duration), or use one that is renewed"
    return until, (_unusable(rule, works).changed(severity="warning"),)


def _unusable(rule: str, suggestion: str) -> Finding:
    return Finding(field="kubeconfig", value="WIDELOOP_KUBECONFIG", rule=rule, suggestion=suggestion)


def check_namespace(api: Api, namespace: str) -> CheckResult:
    """Whether the namespace is there to stay."""
    try:
        document = api.get(f"/api/v1/namespaces/{namespace}")
    except ApiRefused as error:
        if error.status != 403:
            raise
        return CheckResult("namespace", f"may not look at {namespace}", made=False)
    if document is None:
        make = f"kubectl create namespace {namespace}"
        return CheckResult("namespace", "missing", (_namespace(namespace, "does not exist", f"Make it: {make}"),))
    phase = (document.get("status") or {}).get("phase", "")
    if phase == "Terminating":
        rule = "is being deleted: nothing can be made in it"
        return CheckResult(
            "namespace", phase, (_namespace(namespace, rule, "Wait until it is gone, then make it, or use another"),)
        )
    return CheckResult("namespace", f"{namespace} is {phase}")


def _namespace(value: str, rule: str, suggestion: str) -> Finding:
    return Finding(field="namespace", value=value, rule=rule, suggestion=suggestion)


def check_permissions(api: Api, options: ClusterOptions, grants: Grants) -> CheckResult:
    """Each verb that ``wideloop rbac`` grants; what belongs to no namespace only helps to see early."""
    wanted = permissions(options.namespace, options.secrets, grants)
    missing = _missing(api, wanted)
    if not missing:
        return CheckResult("permissions", f"all {len(wanted)} that are needed")
    apply = f"wideloop rbac --namespace {options.namespace} | kubectl apply -f -"
    findings = []
    for of_namespace in (True, False):
        some = [str(p) for p in missing if bool(p.namespace) is of_namespace]
        if some:
            findings.append(
                Finding(
                    field="permissions",
                    value=options.namespace if of_namespace else "cluster",
                    rule=f"this account may not {'; '.join(some)}",
                    suggestion=f"Grant them: {apply}",
                    severity="error" if of_namespace else "warning",
                )
            )
    return CheckResult("permissions", f"{len(missing)} of {len(wanted)} are missing", tuple(findings))


def _missing(api: Api, wanted: Iterable[Permission]) -> list[Permission]:
    wanted = list(wanted)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        allowed = pool.map(lambda p: _allowed(api, p), wanted)
    return [p for p, yes in zip(wanted, allowed, strict=True) if not yes]


def _allowed(api: Api, permission: Permission) -> bool:
    attributes = permission.model_dump()
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {key: value for key, value in attributes.items() if value}},
    }
    return bool(api.request("POST", _REVIEWS, None, review)["status"]["allowed"])
