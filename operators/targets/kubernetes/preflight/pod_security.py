"""Whether the namespace admits pods with the rights that workers have.

A dry run of the deployment does not tell: its pods are made later, by a controller, and are refused then.
"""

from __future__ import annotations

from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.findings import Finding
from wideloop.manifests.kubernetes.model_cache import is_on_host
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.manifests.kubernetes.providers import with_provider
from wideloop.manifests.kubernetes.security import LEVELS, required_level
from wideloop.operators.targets.kubernetes.api import Api
from wideloop.operators.targets.kubernetes.preflight.check_result import CheckResult

_ENFORCE = "pod-security.kubernetes.io/enforce"


def check_pod_security(api: Api, options: ClusterOptions, spec: DeploymentSpec) -> list[CheckResult]:
    """The level that the namespace enforces against the one that the workers need."""
    name = "Pod Security"
    needed, reason = required_level(spec, with_provider(options, spec))
    if is_on_host(options, spec.model_path):
        needed, reason = "privileged", "the model's folder is the hosts' own"
    document = api.get(f"/api/v1/namespaces/{options.namespace}") or {}
    enforced = ((document.get("metadata") or {}).get("labels") or {}).get(_ENFORCE, "")
    if enforced not in LEVELS or LEVELS.index(enforced) <= LEVELS.index(needed):
        text = f"workers need {needed} ({reason}); the namespace enforces {enforced or 'nothing of its own'}"
        return [CheckResult(name, text)]
    finding = Finding(
        field="namespace",
        value=options.namespace,
        rule=f"enforces Pod Security level {enforced}, and workers need {needed}: {reason}",
        suggestion=f"Have it labelled {_ENFORCE}={needed}, or use another namespace",
    )
    return [CheckResult(name, enforced, (finding,))]
