"""Whether the API server would take a deployment: asked of it without making anything."""

from __future__ import annotations

from wideloop.manifests.errors import ApiRefused, TargetError
from wideloop.manifests.findings import Finding
from wideloop.manifests.kubernetes.labels import MANAGER
from wideloop.operators.targets.kubernetes.api import Api, Json
from wideloop.operators.targets.kubernetes.objects import path_of, require_ours
from wideloop.operators.targets.kubernetes.platform import Platform
from wideloop.operators.targets.kubernetes.preflight.check_result import CheckResult


def check_name(api: Api, root: Json) -> tuple[CheckResult, bool]:
    """Whether the name is free or ours; and whether a deployment of that name is there already."""
    name = root["metadata"]["name"]
    try:
        existing = api.get(path_of(root))
        if existing is None:
            return CheckResult("name", f"{name} is free"), False
        require_ours(existing)
    except ApiRefused as error:
        if error.status != 403:
            raise
        return CheckResult("name", "may not be looked at", made=False), False
    except TargetError as error:
        return CheckResult("name", "", (_deployment(root, str(error), "Nothing of it was touched"),)), True
    return CheckResult("name", f"{name} exists already and is ours"), True


def check_admission(api: Api, platform: Platform, root: Json) -> CheckResult:
    """Whether the deployment would be taken: its schema, the operator's webhooks and the cluster's policies."""
    name = "admission"
    everything = path_of(root).rpartition("/")[0]
    query = {"dryRun": "All", "fieldValidation": "Strict", "fieldManager": MANAGER}
    try:
        api.request("POST", everything, query, root)
    except ApiRefused as error:
        return CheckResult(name, "refused", (_deployment(root, error.message, _action(error, platform)),))
    return CheckResult(name, f"the API server takes the {root['kind']} ({root['apiVersion']})")


def _action(error: ApiRefused, platform: Platform) -> str:
    if error.status in (403, 404):
        # Said by the checks of permissions, namespace and CRD, or of a quota: the message has it in any case.
        return "See the other lines"
    if "failed calling webhook" in error.message:
        return f"{platform.controller} does not run: look at its pods with `{platform.find_controller}`"
    return platform.upgrade


def _deployment(root: Json, rule: str, suggestion: str) -> Finding:
    return Finding(field="deployment", value=root["metadata"]["name"], rule=rule, suggestion=suggestion)
