"""What tests make go wrong in pods that are about to start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Fault:
    """Pods of ``namespace`` whose names contain ``pod`` fail: their image is refused, or their containers exit.

    ``pull``: the registry does not have the image. ``exit``: in place of its command a container prints ``message``
    and exits with ``code``.
    """

    kind: Literal["pull", "exit"]
    namespace: str
    pod: str = ""
    code: int = 1
    message: str = "a fault that the test asked for"

    def hits(self, pod: dict[str, Any]) -> bool:
        metadata = pod["metadata"]
        return metadata["namespace"] == self.namespace and self.pod in metadata["name"]


def find(faults: list[Fault], kind: str, pod: dict[str, Any]) -> Fault | None:
    """The first fault of a kind that hits a pod."""
    return next((fault for fault in list(faults) if fault.kind == kind and fault.hits(pod)), None)
