"""Every error this project raises on purpose.

WideloopError
├── Refused                bad input, found before anything was launched
├── TargetError            the place where engines run could not do what was asked
│   └── DeploymentFailed   a deployment died or never became ready; carries a Diagnosis
├── ClientFailed           the load generator or a collector did not finish its work
└── StoreUnavailable       the results or study database cannot be used
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from manifests.diagnosis import Diagnosis
from manifests.findings import Finding


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
    """The target could not do what was asked (out of ports, no such environment, ...)."""


class DeploymentFailed(TargetError):
    """A deployment died or never became ready."""

    def __init__(self, name: str, diagnosis: Diagnosis) -> None:
        self.name = name
        self.diagnosis = diagnosis
        super().__init__(f"deployment {name} failed: {diagnosis}")


class ClientFailed(WideloopError):
    """The load generator or a collector did not finish its work."""


class StoreUnavailable(WideloopError):
    """The results or study database cannot be used; says which and why, never the password."""
