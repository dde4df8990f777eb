"""Whether Dynamo's operator is there and takes the deployment: asked of the API server itself, without making it."""

from __future__ import annotations

from typing import Any

from wideloop.manifests.errors import ApiRefused, TargetError
from wideloop.manifests.findings import Finding
from wideloop.manifests.kubernetes.dynamo import GROUP, KIND
from wideloop.manifests.kubernetes.labels import MANAGER
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.operators.targets.kubernetes.api import Api, Json
from wideloop.operators.targets.kubernetes.objects import collection, path_of, require_ours
from wideloop.operators.targets.kubernetes.preflight.check_result import CheckResult

CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/dynamographdeployments.nvidia.com"
_INSTALL = "Install the Dynamo platform (its Helm chart dynamo-platform), 1.5 or later"


def check_crd(api: Api, options: ClusterOptions) -> CheckResult:
    """The versions that the cluster serves."""
    name = "Dynamo's CRD"
    try:
        found = api.get(CRD)
    except ApiRefused as error:
        if error.status != 403:
            raise
        return CheckResult(name, "may not look at it", made=False)
    if found is None:
        return CheckResult(name, "missing", (_version(options, "the cluster has no DynamoGraphDeployment", _INSTALL),))
    served = [v["name"] for v in found["spec"]["versions"] if v["served"]]
    if options.api_version not in served:
        known = [v for v in ("v1beta1", "v1alpha1") if v in served]
        action = f"Set api_version to {known[0]}" if known else _INSTALL
        return CheckResult(name, "", (_version(options, f"is not served, but {', '.join(served)}", action),))
    if not _established(found):
        return CheckResult(name, "", (_version(options, "its CRD is not established yet", "Wait a few seconds"),))
    return CheckResult(name, f"serves {', '.join(served)}; {options.api_version} is used")


def check_name(api: Api, graph: Json) -> tuple[CheckResult, bool]:
    """Whether the name is free or ours; and whether a deployment of that name is there already."""
    name = graph["metadata"]["name"]
    try:
        found = api.get(path_of(graph))
        if found is None:
            return CheckResult("name", f"{name} is free"), False
        require_ours(found)
    except ApiRefused as error:
        if error.status != 403:
            raise
        return CheckResult("name", "may not be looked at", made=False), False
    except TargetError as error:
        return CheckResult("name", "", (_deployment(graph, str(error), "Nothing of it was touched"),)), True
    return CheckResult("name", f"{name} exists already and is ours"), True


def check_admission(api: Api, options: ClusterOptions, graph: Json) -> CheckResult:
    """Whether the deployment would be taken: its schema, the operator's webhooks and the cluster's policies."""
    name = "admission"
    everything = collection(graph["apiVersion"], graph["kind"], options.namespace)
    query = {"dryRun": "All", "fieldValidation": "Strict", "fieldManager": MANAGER}
    try:
        api.request("POST", everything, query, graph)
    except ApiRefused as error:
        return CheckResult(name, "refused", (_deployment(graph, error.message, _action(error)),))
    return CheckResult(name, f"the API server takes the {KIND} ({GROUP}/{options.api_version})")


def _action(error: ApiRefused) -> str:
    if error.status in (403, 404):
        # Said by the checks of permissions, namespace and CRD, or of a quota: the message has it in any case.
        return "See the other lines"
    if "failed calling webhook" in error.message:
        return "Dynamo's operator does not run: look at its pods (app.kubernetes.io/name=dynamo-operator)"
    return "Use an operator of the version that this project writes for, 1.5 or later, or another api_version"


def _deployment(graph: Json, rule: str, suggestion: str) -> Finding:
    return Finding(field="deployment", value=graph["metadata"]["name"], rule=rule, suggestion=suggestion)


def _version(options: ClusterOptions, rule: str, suggestion: str) -> Finding:
    return Finding(field="api_version", value=options.api_version, rule=rule, suggestion=suggestion)


def _established(crd: Any) -> bool:
    conditions = (crd.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)
