"""From what the cluster shows of a deployment to its state. Pure: who looks, and how often, is decided elsewhere."""

from __future__ import annotations

from typing import Literal, NamedTuple

from manifests.diagnosis import Diagnosis
from manifests.engines.base import Engine
from operators.targets.base import Status
from operators.targets.dynamo.diagnosis import ReadLog, diagnose
from operators.targets.dynamo.pods import in_words, ready
from operators.targets.dynamo.view import View


class Verdict(NamedTuple):
    """``ask``: every component is up, and whether they serve can only be found out by asking for a generation."""

    state: Literal["absent", "pending", "ask", "ready", "failed"]
    reason: str = ""
    diagnosis: Diagnosis | None = None
    start_seconds: float | None = None

    @property
    def status(self) -> Status:
        """The same in the words of a target."""
        state = "pending" if self.state == "ask" else self.state
        return Status(state=state, reason=self.reason, diagnosis=self.diagnosis, start_seconds=self.start_seconds)


def judge(view: View, serving: Engine, read_log: ReadLog, start_timeout_s: float) -> Verdict:
    """The state of a deployment.

    Args:
        start_timeout_s: how long it may take to answer its first generation.
    """
    if view.graph is None:
        return Verdict("absent", f"there is no deployment {view.name}")
    if "deletionTimestamp" in view.graph["metadata"]:
        return Verdict("absent", f"{view.name} is being deleted")
    diagnosis = diagnose(view, serving, read_log)
    if diagnosis is not None:
        return failed(diagnosis)
    record = view.ready_record
    if view.available:
        if record.get("pods") == view.signature:
            return Verdict("ready", start_seconds=record["seconds"])
        return Verdict("ask", "every component is up; no generation was answered yet")
    if not record and view.age_s > start_timeout_s:
        return failed(_late(view, start_timeout_s))
    return Verdict("pending", _progress(view))


def failed(diagnosis: Diagnosis) -> Verdict:
    """The verdict of something that has gone wrong for good."""
    return Verdict("failed", diagnosis.message, diagnosis)


def _late(view: View, start_timeout_s: float) -> Diagnosis:
    return Diagnosis(
        kind="timed_out",
        component="graph",
        message=f"not every component was up within {start_timeout_s:.0f} s. {_progress(view)}",
        action="Read the components' logs; loading from slow storage needs a model cache that many nodes read fast",
    )


def _progress(view: View) -> str:
    pods = view.engine_pods
    if not pods:
        return "no pods yet"
    late = [in_words(p) for p in pods if not ready(p)]
    if not late:
        return "every pod is ready; Dynamo's operator does not say so yet"
    more = f" and {len(late) - 2} more" if len(late) > 2 else ""
    return f"{len(pods) - len(late)} of {len(pods)} pods ready; {'; '.join(late[:2])}{more}"
