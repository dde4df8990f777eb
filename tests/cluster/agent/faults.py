"""What tests make go wrong in pods that are about to start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Fault:
    """Pods of ``namespace`` fail whose names contain ``pod`` and whose containers are told ``argument``.

    ``pull``: the registry does not have the image. ``exit``: in place of its command a container prints ``message``
    and exits with ``code``. ``hang``: it does nothing until it is told to end.
    """

    kind: Literal["pull", "exit", "hang"]
    namespace: str
    pod: str = ""
    argument: str = ""
    code: int = 1
    message: str = "a fault that the test asked for"

    def hits(self, pod: dict[str, Any]) -> bool:
        metadata = pod["metadata"]
        told = " ".join(a for c in pod["spec"]["containers"] for a in (*c.get("command", ()), *c.get("args", ())))
        return metadata["namespace"] == self.namespace and self.pod in metadata["name"] and self.argument in told

    @property
    def command(self) -> list[str]:
        """What a container runs in place of its own command."""
        if self.kind == "hang":
            return ["sh", "-c", "trap 'exit 1' TERM; sleep 3600 & wait"]
        return ["sh", "-c", 'echo "$1"; exit "$2"', "sh", self.message, str(self.code)]


def find(faults: list[Fault], pod: dict[str, Any], *kinds: str) -> Fault | None:
    """The fault of some kinds that hits a pod; of several the one that was asked for last."""
    return next((fault for fault in reversed(list(faults)) if fault.kind in kinds and fault.hits(pod)), None)
