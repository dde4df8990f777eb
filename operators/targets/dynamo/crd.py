"""Whether Dynamo is installed, and serves the version of its kind that is used."""

from __future__ import annotations

from typing import Any

from wideloop.manifests.errors import ApiRefused
from wideloop.manifests.findings import Finding
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.operators.targets.kubernetes.api import Api
from wideloop.operators.targets.kubernetes.preflight.check_result import CheckResult

CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/dynamographdeployments.nvidia.com"
_INSTALL = "Install the Dynamo platform (its Helm chart dynamo-platform), 1.5 or later"


def check_crd(api: Api, options: ClusterOptions) -> CheckResult:
    """The versions that the cluster serves."""
    name = "Dynamo's CRD"
    try:
        crd = api.get(CRD)
    except ApiRefused as error:
        if error.status != 403:
            raise
        return CheckResult(name, "may not look at it", made=False)
    if crd is None:
        return CheckResult(name, "missing", (_version(options, "the cluster has no DynamoGraphDeployment", _INSTALL),))
    served = [v["name"] for v in crd["spec"]["versions"] if v["served"]]
    if options.api_version not in served:
        usable = [v for v in ("v1beta1", "v1alpha1") if v in served]
        action = f"Set api_version to {usable[0]}" if usable else _INSTALL
        return CheckResult(name, "", (_version(options, f"is not served, but {', '.join(served)}", action),))
    if not _established(crd):
        return CheckResult(name, "", (_version(options, "its CRD is not established yet", "Wait a few seconds"),))
    return CheckResult(name, f"serves {', '.join(served)}; {options.api_version} is used")


def _version(options: ClusterOptions, rule: str, suggestion: str) -> Finding:
    return Finding(field="api_version", value=options.api_version, rule=rule, suggestion=suggestion)


def _established(crd: Any) -> bool:
    conditions = (crd.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)
