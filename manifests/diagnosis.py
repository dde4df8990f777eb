"""Why a deployment is not running: a kind for programs to act on, and a message and an action for people."""

from __future__ import annotations

from typing import Literal

from pydantic import field_validator
from wideloop.manifests.frozen import Frozen
from wideloop.manifests.plain_text import plain

FailureKind = Literal[
    "out_of_memory",
    "bad_configuration",
    "crashed",
    "timed_out",
    "unschedulable",
    "quota_exceeded",
    "image_unavailable",
    "storage_unavailable",
    "node_lost",
]
#: Ranks that wait for one that ended time out, or lose their connection to it.
_DOUBTS: dict[FailureKind, int] = {"timed_out": 1, "crashed": 2}


class Diagnosis(Frozen):
    """The cause of a failure, as plain text.

    Attributes:
        component: the process or pod that failed, e.g. ``decode-0``.
        deficit_gib: memory missing per GPU in GiB where the log states it, else None.
        log_tail: the last lines of the component's log.
        action: what the user can do about it.
        infeasible: a limit of the engine other than memory that this configuration exceeds wherever it runs.
    """

    kind: FailureKind
    component: str
    message: str
    action: str
    deficit_gib: float | None = None
    log_tail: tuple[str, ...] = ()
    infeasible: bool = False

    @field_validator("message", "log_tail")
    @classmethod
    def _is_plain(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        """Engines colour their logs, and their text is shown in terminals and on pages."""
        return plain(value) if isinstance(value, str) else tuple(map(plain, value))

    @property
    def lies_in_configuration(self) -> bool:
        """Whether the configuration that was tried is the cause: any other trial of it would end in the same way."""
        return self.infeasible or self.kind == "out_of_memory"

    @property
    def doubt(self) -> int:
        """How likely another process's end is the cause of this one; 0: not at all. The least doubtful is shown."""
        return _DOUBTS.get(self.kind, 0)

    def __str__(self) -> str:
        tail = "".join(f"\n    | {line}" for line in self.log_tail)
        return f"[{self.kind}] {self.component}: {self.message} -> {self.action}{tail}"
