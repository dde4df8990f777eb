"""A pod's status as a kubelet reports it, composed from the states of its containers."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.cluster.agent.images import image_id

Document = dict[str, Any]


def now() -> str:
    return stamp(datetime.now(UTC))


def stamp(moment: datetime) -> str:
    """RFC 3339 with seconds, as ``metav1.Time`` has it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class ContainerState:
    """What is known of one container over all its starts.

    Attributes:
        state, last_state: ``{"waiting"|"running"|"terminated": {...}}``, the latter also empty.
        started: whether it runs and its start-up probe has succeeded.
        ready: whether it is started and its readiness probe has succeeded.
    """

    name: str
    image: str
    state: Document = field(default_factory=lambda: {"waiting": {"reason": "ContainerCreating"}})
    last_state: Document = field(default_factory=dict)
    restarts: int = 0
    identity: str = ""
    started: bool = False
    ready: bool = False

    def wait(self, reason: str, message: str = "") -> None:
        """It does not run; what it did before becomes its last state."""
        if "terminated" in self.state:
            self.last_state = self.state
        self.state = {"waiting": {"reason": reason} | ({"message": message} if message else {})}
        self.started = self.ready = False

    def run(self, identity: str, started_at: datetime) -> None:
        if "terminated" in self.state:
            self.last_state = self.state
        self.identity = identity
        self.state = {"running": {"startedAt": stamp(started_at)}}

    def terminate(self, exit_code: int, reason: str, message: str, started_at: datetime, finished_at: datetime) -> None:
        self.started = self.ready = False
        self.state = {
            "terminated": {
                "exitCode": exit_code,
                "reason": reason,
                "startedAt": stamp(started_at),
                "finishedAt": stamp(finished_at),
                "containerID": self.identity,
            }
            | ({"message": message} if message else {})
        }

    @property
    def exit_code(self) -> int | None:
        """Of the run that has just ended, None while it runs or waits."""
        terminated = self.state.get("terminated")
        return None if terminated is None else int(terminated["exitCode"])

    def document(self) -> Document:
        has_run = bool(self.identity)
        return {
            "name": self.name,
            "image": self.image,
            "imageID": image_id(self.image) if has_run else "",
            "state": self.state,
            "lastState": self.last_state,
            "restartCount": self.restarts,
            "ready": self.ready,
            "started": self.started,
        } | ({"containerID": self.identity} if has_run else {})


def phase(
    containers: list[ContainerState], before: list[ContainerState], initialised: bool, restart_policy: str
) -> str:
    """Pending, Running, Succeeded or Failed; ``before`` are the containers that initialise."""
    if restart_policy == "Never" and any(container.exit_code for container in before):
        return "Failed"
    codes = [container.exit_code for container in containers]
    if initialised and all(code is not None for code in codes) and not _restarts(codes, restart_policy):
        return "Failed" if any(codes) else "Succeeded"
    return "Running" if initialised and any(container.identity for container in containers) else "Pending"


def _restarts(codes: list[int | None], restart_policy: str) -> bool:
    return restart_policy == "Always" or (restart_policy == "OnFailure" and any(codes))


def conditions(pod: Document, current: str, ready: bool, initialised: bool) -> list[Document]:
    """The pod's conditions; those of others, the scheduler's above all, are kept."""
    before = {one["type"]: one for one in pod["status"].get("conditions", ())}
    done = current in ("Succeeded", "Failed")
    wanted: dict[str, tuple[bool, str]] = {
        "PodReadyToStartContainers": (not done, ""),
        "Initialized": (initialised, "" if initialised else "ContainersNotInitialized"),
        "ContainersReady": (ready, "" if ready else "PodCompleted" if done else "ContainersNotReady"),
        "Ready": (ready, "" if ready else "PodCompleted" if done else "ContainersNotReady"),
    }
    for kind, (value, reason) in wanted.items():
        text = str(value)
        changed = before.get(kind, {}).get("status") != text
        since = now() if changed else before[kind]["lastTransitionTime"]
        before[kind] = {"type": kind, "status": text, "lastTransitionTime": since} | (
            {"reason": reason} if reason else {}
        )
    return list(before.values())
