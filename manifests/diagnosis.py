"""Why a deployment is not running: a kind for programs to act on, and a message and an action for people."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

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


class Diagnosis(BaseModel):
    """The cause of a failure. Only ``out_of_memory`` says something about the configuration that was tried.

    Attributes:
        component: the process or pod that failed, e.g. ``decode-0``.
        deficit_gib: memory missing per GPU in GiB where the log states it, else None.
        log_tail: the last lines of the component's log.
        action: what the user can do about it.
    """

    model_config = ConfigDict(frozen=True)

    kind: FailureKind
    component: str
    message: str
    action: str
    deficit_gib: float | None = None
    log_tail: tuple[str, ...] = ()

    def __str__(self) -> str:
        tail = "".join(f"\n    | {line}" for line in self.log_tail)
        return f"[{self.kind}] {self.component}: {self.message} -> {self.action}{tail}"
