"""The parts of an installed Dynamo platform: its operator, what components find each other by, and what makes groups.

By which labels the parts are found: those of the charts ``dynamo-platform``, ``etcd`` and ``nats``. What the operator
uses for workers over several nodes is decided by the API groups that are served, as the operator itself decides it
(``internal/controller_common`` and ``cmd/main.go`` of ai-dynamo/dynamo).
"""

from __future__ import annotations

import re
from typing import Any

from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.errors import ApiRefused
from wideloop.manifests.findings import Finding
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.operators.targets.kubernetes.api import Api
from wideloop.operators.targets.kubernetes.pods import ready
from wideloop.operators.targets.kubernetes.preflight.api_groups import ApiGroups
from wideloop.operators.targets.kubernetes.preflight.check_result import CheckResult

Json = dict[str, Any]

_NAME = "app.kubernetes.io/name"
_OPERATOR, _STORES = "dynamo-operator", ("etcd", "nats")
#: From this release on, components find each other through the Kubernetes API and talk without NATS.
_WITHOUT_STORES = 1
_TAG = re.compile(r":v?(\d+)\.(\d+)\.(\d+)[^/]*$")
_GROVE, _LWS, _VOLCANO = "grove.io", "leaderworkerset.x-k8s.io", "scheduling.volcano.sh"


def check_installation(api: Api, options: ClusterOptions, spec: DeploymentSpec, groups: ApiGroups) -> list[CheckResult]:
    """Operator, discovery, and what makes workers over several nodes."""
    orchestrator = check_orchestrator(options, spec, groups)
    try:
        pods = _pods(api, _OPERATOR)
        stores = {name: _pods(api, name) for name in _STORES}
    except ApiRefused as error:
        if error.status != 403:
            raise
        text = "pods of other namespaces may not be listed; the admission's dry run asks its webhook"
        return [CheckResult("Dynamo's operator", text, made=False), orchestrator]
    return [check_operator(pods), check_discovery(pods, stores), orchestrator]


def _pods(api: Api, name: str) -> list[Json]:
    return api.list("/api/v1/pods", {"labelSelector": f"{_NAME}={name}"})[0]


def check_operator(pods: list[Json]) -> CheckResult:
    """Whether a pod of the operator runs. A dead one takes a deployment and makes nothing of it."""
    name = "Dynamo's operator"
    if not pods:
        rule = f"has no pod with the label {_NAME}={_OPERATOR}, so nothing may make pods of a deployment"
        action = "Look for it: kubectl get pods -A | grep dynamo-operator"
        finding = _finding("operator", "none", rule, action, "warning")
        return CheckResult(name, "not found", (finding,))
    running = [pod for pod in pods if ready(pod)]
    tags = ", ".join(sorted(f"{p['metadata']['namespace']}/{p['metadata']['name']} {_tag(p)}" for p in pods))
    if running:
        return CheckResult(name, f"{len(running)} of {len(pods)} ready: {tags}")
    first = pods[0]["metadata"]
    action = f"Look at it: kubectl -n {first['namespace']} describe pod {first['name']}"
    return CheckResult(name, tags, (_finding("operator", tags, "has no pod that is ready", action),))


def check_discovery(operator: list[Json], stores: dict[str, list[Json]]) -> CheckResult:
    """etcd and NATS, which releases before 1.0 need."""
    name = "etcd and NATS"
    running = [store for store, pods in stores.items() if any(map(ready, pods))]
    text = f"ready: {', '.join(running)}" if running else "none found"
    major = min((int(match[1]) for pod in operator if (match := _TAG.search(_image(pod)))), default=_WITHOUT_STORES)
    if major >= _WITHOUT_STORES:
        return CheckResult(name, f"{text}; not needed: components find each other through the Kubernetes API")
    missing = sorted(set(stores) - set(running))
    findings = tuple(
        _finding(store, "none", f"is needed by Dynamo {major}.x and has no pod that is ready", "Install or repair it")
        for store in missing
    )
    return CheckResult(name, text, findings)


def check_orchestrator(options: ClusterOptions, spec: DeploymentSpec, groups: ApiGroups) -> CheckResult:
    """Grove, or LeaderWorkerSet with Volcano, one of which the operator wants for workers over several nodes."""
    name = "Grove, LeaderWorkerSet"
    wide = [w.role for w in spec.workers if w.layout.nodes > 1]
    versions = {group: ", ".join(groups[group]) for group in (_GROVE, _LWS, _VOLCANO) if group in groups}
    text = "; ".join(f"{group}: {served}" for group, served in versions.items()) or "neither is installed"
    if options.grove and _GROVE in groups:
        return CheckResult(name, f"Grove is used; {text}")
    if not wide:
        return CheckResult(name, f"not needed, no worker spans nodes; {text}")
    if _LWS in groups and _VOLCANO in groups:
        return CheckResult(name, f"LeaderWorkerSet is used; {text}")
    if _LWS in groups:
        rule = f"{' and '.join(wide)} span nodes, and the operator uses LeaderWorkerSet only beside Volcano"
        action = "Install Volcano or Grove"
    else:
        rule = f"{' and '.join(wide)} span nodes, for which the operator wants Grove, or LeaderWorkerSet and Volcano"
        action = "Install Grove, or use a profile whose workers have one node each"
    if not options.grove and _GROVE in groups:
        action = "Set grove to true, for Grove is installed"
    return CheckResult(name, text, (_finding("hardware", spec.hardware.name, rule, action),))


def _image(pod: Json) -> str:
    return next((str(c.get("image", "")) for c in pod["spec"]["containers"] if "operator" in c.get("image", "")), "")


def _tag(pod: Json) -> str:
    match = _TAG.search(_image(pod))
    return ".".join(match.groups()) if match else "of an unknown version"


def _finding(field: str, value: str, rule: str, suggestion: str, severity: Any = "error") -> Finding:
    return Finding(field=field, value=value, rule=rule, suggestion=suggestion, severity=severity)
