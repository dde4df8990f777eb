"""Whether the claims are there, hold the model, and can be mounted by every node."""

from __future__ import annotations

from typing import Any

from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.engines import get_engine
from wideloop.manifests.findings import Finding, Severity
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.operators.request import UNKNOWN
from wideloop.operators.targets.kubernetes.api import Api, Json
from wideloop.operators.targets.kubernetes.claims import claim_bytes, find_claim, judge_claim
from wideloop.operators.targets.kubernetes.preflight.check_result import CheckResult

_CLASSES = "/apis/storage.k8s.io/v1/storageclasses"
_DEFAULT = "storageclass.kubernetes.io/is-default-class"
#: Parts of the names of provisioners that are known to provide ReadWriteMany: the API does not say which do.
_SHARED = ("nfs", "efs", "azurefile", "file.csi.azure", "filestore", "cephfs", "lustre", "weka", "vast", "gpfs")
#: Of provisioners whose volumes are one node's.
_SINGLE = ("ebs", "pd.csi", "azuredisk", "disk.csi.azure", "local-path", "no-provisioner", "rbd", "topolvm", "openebs")


def check_storage(api: Api, options: ClusterOptions, spec: DeploymentSpec) -> list[CheckResult]:
    """The claim of models, that of files, and the storage class of those that are still to be made."""
    needed = spec.model.total_bytes if get_engine(spec.engine).needs_weights else 0
    claims = {
        name: find_claim(api, options.namespace, name)
        for name in dict.fromkeys((options.model_claim, options.files_claim))
    }
    checks = [
        _claim("model claim", options.model_claim, claims[options.model_claim], needed, spec),
        _claim("files claim", options.files_claim, claims[options.files_claim], 0, spec),
    ]
    if None in claims.values() or any(_unbound(claim) for claim in claims.values()):
        classes, _ = api.list(_CLASSES)
        checks.append(check_class(options.storage_class, classes))
    return checks


def _unbound(claim: Json | None) -> bool:
    return claim is not None and (claim.get("status") or {}).get("phase") == "Pending"


def _claim(check: str, name: str, claim: Json | None, needed: int, spec: DeploymentSpec) -> CheckResult:
    """A missing claim is an error once weights should be in it; before, the first run makes it."""
    field = check.replace(" ", "_")
    if claim is None:
        first = spec.model_path == UNKNOWN
        rule = "does not exist yet" if first else "does not exist"
        action = "Nothing: the first run makes it" if first else "Run wideep_weights, which makes it and fills it"
        severity: Severity = "warning" if first else "error"
        finding = Finding(field=field, value=name, rule=rule, suggestion=action, severity=severity)
        return CheckResult(check, "missing", (finding,))
    phase = (claim.get("status") or {}).get("phase", "")
    size = f"{claim_bytes(claim) / 1e9:.0f} GB"
    takes = f", the model takes {needed / 1e9:.0f} GB" if needed else ""
    return CheckResult(check, f"{name} is {phase}: {size}{takes}", tuple(judge_claim(field, claim, needed)))


def check_classes(api: Api) -> CheckResult:
    """The classes by what their provisioners can do, so that one for shared claims can be chosen by name."""
    classes, _ = api.list(_CLASSES)
    shared = [c["metadata"]["name"] for c in classes if _is_one_of(c, _SHARED)]
    single = [c["metadata"]["name"] for c in classes if c["metadata"]["name"] not in shared and _is_one_of(c, _SINGLE)]
    others = [n for c in classes if (n := c["metadata"]["name"]) not in (*shared, *single)]
    parts = {"ReadWriteMany": shared, "one node only": single, "not known": others}
    text = "; ".join(f"{title}: {', '.join(sorted(names))}" for title, names in parts.items() if names)
    return CheckResult("storage classes", text or "none")


def check_class(wanted: str | None, classes: list[Any]) -> CheckResult:
    """The class of claims that are to be made, as far as its provisioner's name tells."""
    name = "storage class"
    named = {c["metadata"]["name"]: c for c in classes}
    shared = [n for n, c in named.items() if _is_one_of(c, _SHARED)]
    use = f"Set storage_class to {' or '.join(shared)}" if shared else "Install a provisioner of shared file systems"
    if wanted is None:
        default = [n for n, c in named.items() if (c["metadata"].get("annotations") or {}).get(_DEFAULT) == "true"]
        if not default:
            return CheckResult(name, "no default", (_class("", "is not set, and the cluster has no default", use),))
        wanted = default[0]
    if wanted not in named:
        names = ", ".join(sorted(named)) or "none"
        return CheckResult(name, "missing", (_class(wanted, f"does not exist; there are {names}", use),))
    provisioner = named[wanted]["provisioner"]
    if _is_one_of(named[wanted], _SINGLE) and not _is_one_of(named[wanted], _SHARED):
        rule = f"is provided by {provisioner}, whose volumes only one node can mount"
        return CheckResult(name, provisioner, (_class(wanted, rule, use),))
    if not _is_one_of(named[wanted], _SHARED):
        rule = f"is provided by {provisioner}, of which we do not know whether several nodes can mount its volumes"
        finding = _class(wanted, rule, "ReadWriteMany is needed; make sure that it has it")
        return CheckResult(name, provisioner, (finding.model_copy(update={"severity": "warning"}),))
    return CheckResult(name, f"{wanted} ({provisioner})")


def _is_one_of(storage_class: Any, parts: tuple[str, ...]) -> bool:
    return any(part in storage_class["provisioner"].lower() for part in parts)


def _class(value: str, rule: str, suggestion: str) -> Finding:
    return Finding(field="storage_class", value=value, rule=rule, suggestion=suggestion)
