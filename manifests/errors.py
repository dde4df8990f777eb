"""Every error this project raises on purpose.

WideloopError
├── Refused                bad input, found before anything was launched
├── TargetError            the target, where engines run, could not carry out a request
│   ├── DeploymentFailed   a deployment ended or never became ready; carries a Diagnosis
│   ├── TargetBusy         another live deployment holds the accelerators; may be tried again
│   ├── ApiRefused         the Kubernetes API server refused a request; carries its status and reason
│   └── ApiUnreachable     the Kubernetes API server does not answer
├── ClientFailed           the load generator or a collector did not finish its work
└── StoreUnavailable       the results or study database cannot be used
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime

from wideloop.manifests.diagnosis import Diagnosis
from wideloop.manifests.findings import Finding


class WideloopError(Exception):
    """Base of everything raised here on purpose; its text is meant for the user."""


class Refused(WideloopError):
    """Bad input. ``findings`` says, for each field, the value, the rule and a value that would work."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__("\n".join(str(f) for f in self.findings))


def refuse(findings: Iterable[Finding]) -> None:
    """Raise :class:`Refused` when any of ``findings`` is an error; warnings pass."""
    errors = [f for f in findings if f.severity == "error"]
    if errors:
        raise Refused(errors)


class TargetError(WideloopError):
    """The target could not carry out a request (out of ports, no such environment, ...)."""


class DeploymentFailed(TargetError):
    """A deployment ended or never became ready."""

    def __init__(self, name: str, diagnosis: Diagnosis) -> None:
        self.name = name
        self.diagnosis = diagnosis
        super().__init__(f"deployment {name} failed: {diagnosis}")


class TargetBusy(TargetError):
    """Another live deployment holds the accelerators. Nothing was started, so it may be tried again.

    Attributes:
        name: the deployment that holds them.
        owner_run: the run that owns it as ``<dag id>/<run id>``, None when unknown.
        keep_until: time until which it outlives its run, None when it does not.
    """

    def __init__(self, name: str, owner_run: str | None, keep_until: datetime | None) -> None:
        self.name = name
        self.owner_run = owner_run
        self.keep_until = keep_until
        kept = f", kept until {keep_until:%Y-%m-%d %H:%M %Z}" if keep_until else ""
        super().__init__(
            f"another live deployment holds the accelerators: {name} of {owner_run or 'an unknown run'}{kept}. "
            f"Wait for it, or delete it: wideep_deploy with action = down, deployment = {name}"
        )


class ApiRefused(TargetError):
    """The Kubernetes API server refused a request.

    Attributes:
        status: HTTP status, e.g. 403.
        reason: the API's reason, e.g. ``Forbidden``; ``NotServed`` for a kind that the server does not have.
    """

    def __init__(self, *, method: str, path: str, status: int, reason: str, message: str, source: str) -> None:
        self.status = status
        self.reason = reason
        self.message = message
        answer = f"{status} {reason}: {message}"
        action = next((action for pattern, action in _API_ACTIONS if re.search(pattern, answer)), "")
        super().__init__(f"{method} {path} was refused with {answer}. {action}(via {source})")


#: Pattern of the API server's answer, and the user's next step. The first pattern that matches counts.
_API_ACTIONS = (
    (r"NoApi", "Log in again, or give WIDELOOP_KUBECONFIG the address of the API server itself. "),
    (r"^401", "The credentials are not, or no longer, valid: log in again, or give WIDELOOP_KUBECONFIG another file. "),
    (r"namespaces \S+ not found", "Make it with `kubectl create namespace`, or set WIDELOOP_CLUSTER__NAMESPACE. "),
    (r"being terminated", "Wait until the namespace is gone and make it again, or set WIDELOOP_CLUSTER__NAMESPACE. "),
    (r"exceeded quota", "Free what the namespace holds, have its quota raised, or choose a smaller profile. "),
    (r"^403", "Have `wideloop rbac` applied by the cluster's administrator. "),
    (r"NotServed", "The cluster lacks this kind: install the Dynamo platform, or the version of it that has it. "),
)


class ApiUnreachable(TargetError):
    """The Kubernetes API server does not answer."""

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(
            f"the API server of {source} does not answer: {reason}. Check that `kubectl get pods` works from here, "
            "or give WIDELOOP_KUBECONFIG another file"
        )


class ClientFailed(WideloopError):
    """The load generator or a collector did not finish its work."""


class StoreUnavailable(WideloopError):
    """The results or study database cannot be used; says which and why, never the password."""
