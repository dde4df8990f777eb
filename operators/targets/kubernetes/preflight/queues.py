"""Whether Kueue admits what is queued, and which topology it knows."""

from __future__ import annotations

from wideloop.manifests.errors import ApiRefused
from wideloop.manifests.findings import Finding
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.operators.targets.kubernetes.api import Api
from wideloop.operators.targets.kubernetes.preflight.api_groups import ApiGroups
from wideloop.operators.targets.kubernetes.preflight.check_result import CheckResult

_KUEUE = "kueue.x-k8s.io"
_KAI = "scheduling.run.ai"


def check_queues(api: Api, options: ClusterOptions, groups: ApiGroups) -> list[CheckResult]:
    """Kueue with its queue and topologies; KAI where a queue of it is named."""
    checks = [_kueue(api, options, groups)]
    if options.kai_queue and _KAI not in groups:
        rule = "names a queue of the KAI scheduler, which the cluster does not have"
        action = "Install KAI, or leave kai_queue empty"
        checks.append(CheckResult("KAI queue", "missing", (_finding("kai_queue", options.kai_queue, rule, action),)))
    return checks


def _kueue(api: Api, options: ClusterOptions, groups: ApiGroups) -> CheckResult:
    name, queue = "Kueue", options.kueue_queue
    if _KUEUE not in groups:
        if queue is None:
            return CheckResult(name, "not installed, and no queue of it is named")
        rule = "names a queue of Kueue, which the cluster does not have"
        return CheckResult(
            name, "missing", (_finding("kueue_queue", queue, rule, "Install Kueue, or leave kueue_queue empty"),)
        )
    version = groups[_KUEUE][0]
    topologies = _names(api, f"/apis/{_KUEUE}/{version}/topologies")
    queues = _names(api, f"/apis/{_KUEUE}/{version}/namespaces/{options.namespace}/localqueues")
    known = "may not be listed" if topologies is None else ", ".join(topologies) or "none"
    text = f"{version}; topologies: {known}"
    if queue is None:
        return CheckResult(name, f"{text}; no queue is named, so Kueue admits nothing of a deployment")
    if queues is None:
        return CheckResult(name, f"{text}; its queues may not be listed", made=False)
    if queue not in queues:
        rule = f"is no LocalQueue of namespace {options.namespace}; there are {', '.join(queues) or 'none'}"
        action = "Correct kueue_queue, or have the LocalQueue made: nothing would be admitted"
        return CheckResult(name, text, (_finding("kueue_queue", queue, rule, action),))
    return CheckResult(name, f"{text}; queue {queue}")


def _names(api: Api, path: str) -> list[str] | None:
    """Names of all objects of a collection; None where this account may not list them, or the version has none."""
    try:
        return sorted(item["metadata"]["name"] for item in api.list(path)[0])
    except ApiRefused as error:
        if error.status not in (403, 404):
            raise
        return None


def _finding(field: str, value: str | None, rule: str, suggestion: str) -> Finding:
    return Finding(field=field, value=value, rule=rule, suggestion=suggestion)
