"""From what the cluster shows of a deployment to its state. Pure: who looks, and how often, is decided elsewhere."""

from __future__ import annotations

from collections import Counter
from typing import Literal, NamedTuple

from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.diagnosis import Diagnosis
from wideloop.manifests.engines import get_engine
from wideloop.operators.targets.base import Status
from wideloop.operators.targets.kubernetes.diagnosis import diagnose
from wideloop.operators.targets.kubernetes.pods import START_STEPS, in_words, ready, start_step
from wideloop.operators.targets.kubernetes.terminations import ReadLog
from wideloop.operators.targets.kubernetes.view import View

#: Seconds that the first generation may take of a deployment that is up: kernels are compiled for it.
ANSWER_S = 900.0


class Judgement(NamedTuple):
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


def judge(view: View, spec: DeploymentSpec, read_log: ReadLog, start_timeout_s: float) -> Judgement:
    """The state of a deployment.

    Args:
        start_timeout_s: how long it may take to answer its first generation.
    """
    if view.root is None:
        return Judgement("absent", f"there is no deployment {view.name}")
    if "deletionTimestamp" in view.root["metadata"]:
        return Judgement("absent", f"{view.name} is being deleted")
    roles = {component.role for component in view.platform.components(spec)}
    diagnosis = diagnose(view, get_engine(spec.engine), roles, read_log)
    if diagnosis is not None:
        return failed(diagnosis)
    record = view.ready_record
    if view.available:
        if record.get("pods") == view.signature:
            return Judgement("ready", start_seconds=record["seconds"])
        if view.files_pod is None or not ready(view.files_pod):
            # Found out now, and not once a benchmark was paid for.
            reason = in_words(view.files_pod) if view.files_pod else "its pod is gone and made again"
            return Judgement(
                "pending", f"every component is up, but nothing serves the files that they write: {reason}"
            )
        if view.available_s > ANSWER_S:
            return failed(_silent(view))
        return Judgement("ask", "every component is up; no generation was answered yet")
    if not record and view.age_s > start_timeout_s:
        return failed(_late(view, start_timeout_s))
    return Judgement("pending", _progress(view))


def failed(diagnosis: Diagnosis) -> Judgement:
    """The verdict of something that has gone wrong for good."""
    return Judgement("failed", diagnosis.message, diagnosis)


def _silent(view: View) -> Diagnosis:
    return Diagnosis(
        kind="timed_out",
        component="frontend",
        message=f"every component has been up for {view.available_s:.0f} s, and no generation was answered",
        action="Read the components' logs: workers may not find each other, or hang in their first batch",
    )


def _late(view: View, start_timeout_s: float) -> Diagnosis:
    return Diagnosis(
        kind="timed_out",
        component="deployment",
        message=f"not every component was up within {start_timeout_s:.0f} s. {_progress(view)}",
        action="Read the components' logs; loading from slow storage needs a model cache that many nodes read fast",
    )


def _progress(view: View) -> str:
    pods = view.engine_pods
    if not pods:
        return "no pods yet"
    late = [in_words(p) for p in pods if not ready(p)]
    if not late:
        return f"every pod is ready; {view.platform.controller} does not report it yet"
    more = f" and {len(late) - 2} more" if len(late) > 2 else ""
    steps = Counter(start_step(p) for p in pods if not ready(p))
    counts = ", ".join(f"{steps[step]} {step}" for step in START_STEPS if steps[step])
    return f"{len(pods) - len(late)} of {len(pods)} pods ready, {counts}; {'; '.join(late[:2])}{more}"
