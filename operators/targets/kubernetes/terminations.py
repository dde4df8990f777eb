"""How the containers of each rank have ended, over all the pods that took its place.

Kubernetes counts the restarts of a container inside its pod. A worker over several nodes restarts otherwise:
LeaderWorkerSet makes a group of pods anew as soon as a container of one was restarted, so a crash loop shows as pods
that are always young and were never restarted twice. Each termination is therefore kept on the root object, where it
outlives the pod, its log and the process that saw it.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict
from wideloop.manifests.diagnosis import Diagnosis
from wideloop.manifests.engines.base import Component, Engine
from wideloop.operators.targets.kubernetes import pod_diagnoses
from wideloop.operators.targets.kubernetes.events import about_one, last
from wideloop.operators.targets.kubernetes.pods import Ended, ended, role
from wideloop.operators.targets.kubernetes.view import View

Json = dict[str, Any]
#: (pod, whether that of its last run) -> lines.
ReadLog = Callable[[Json, bool], tuple[str, ...]]

#: Begin of the annotations of a root object that hold terminations, one for each pod.
END = "wideloop/end-"
#: Unexplained terminations in one place after which a deployment counts as failed.
ENOUGH = 2
#: Limit of what one root object holds; more would tell nothing new.
_KEPT = 64
_LINE = 200
#: Log lines of a rank that ended because another one had ended before it.
_AFTER_ANOTHER = re.compile(r"Connection (closed|reset) by (remote )?peer|socket.*closed by remote", re.I)


class Termination(BaseModel):
    """How the container of one pod last ended.

    Attributes:
        place: the rank's, see :meth:`wideloop.operators.targets.kubernetes.platform.Platform.place`.
        pod: its uid. name: its name.
        failures: ends in this pod so far.
        at: when, as the API server writes it.
        follows: the pod is one of the nodes behind the leader of its worker.
    """

    model_config = ConfigDict(frozen=True)

    place: str
    pod: str
    name: str
    failures: int
    at: str = ""
    follows: bool = False
    diagnosis: Diagnosis


def recorded(root: Json | None) -> list[Termination]:
    """The terminations that the root object holds."""
    annotations = ((root or {}).get("metadata", {}).get("annotations") or {}).items()
    return [Termination.model_validate_json(text) for key, text in sorted(annotations) if key.startswith(END)]


def record(ends: Iterable[Termination]) -> dict[str, str]:
    """Annotations that hold ``ends``: a key for each pod, so that no process overwrites what another has seen."""
    return {END + hashlib.sha256(end.pod.encode()).hexdigest()[:12]: end.model_dump_json() for end in ends}


def forget(root: Json) -> dict[str, None]:
    """Annotations that remove them from the root object."""
    return {key: None for key in root["metadata"].get("annotations") or {} if key.startswith(END)}


def unrecorded(view: View, engine: Engine, read_log: ReadLog) -> list[Termination]:
    """The terminations that pods show and the root object does not hold yet."""
    held = {end.pod: end for end in recorded(view.root)}
    if len(held) >= _KEPT:
        return []
    return [end for end in _merged(view, engine, read_log) if held.get(end.pod) != end]


def fatal(view: View, engine: Engine, read_log: ReadLog) -> Iterator[Diagnosis]:
    """Why ranks will not come up: the first explained termination, or an unexplained one once a place has enough.

    The order is that of time; ranks that ended because another one had ended come last. Where every component is up
    again, terminations of pods that are gone do not count.
    """
    by_place: dict[str, list[Termination]] = defaultdict(list)
    there = {pod["metadata"]["uid"] for pod in view.engine_pods}
    for end in _merged(view, engine, read_log):
        if end.pod in there or not view.available:
            by_place[end.place].append(end)
    every = (end for ends in by_place.values() for end in ends)
    for end in sorted(
        every, key=lambda end: (_came_along(end), end.diagnosis.doubt == 1, end.at, end.follows, end.name)
    ):
        count = sum(other.failures for other in by_place[end.place])
        if _explained(end):
            yield end.diagnosis
        elif count >= ENOUGH:
            yield _counted(end, count, len(by_place[end.place]))


def _merged(view: View, engine: Engine, read_log: ReadLog) -> list[Termination]:
    """One for each pod: what the root object holds, unless the pod has ended again or can be explained now."""
    by_pod = {end.pod: end for end in recorded(view.root)}
    gone = view.gone_pods
    for pod in (*view.engine_pods, *view.deleted_pods, *gone):
        end = ended(pod)
        held = by_pod.get(pod["metadata"]["uid"])
        if end is None or (held and held.failures >= end.failures and (_explained(held) or view.events is None)):
            continue
        lines = () if pod in gone else read_log(pod, end.running_again)
        newest = _termination(view, pod, end, engine, lines or tuple(end.message.splitlines()))
        if held is None or newest.failures > held.failures or _explained(newest):
            by_pod[newest.pod] = newest
    return list(by_pod.values())


def _explained(end: Termination) -> bool:
    return end.diagnosis.kind != "crashed"


def _termination(view: View, pod: Json, end: Ended, engine: Engine, log: tuple[str, ...]) -> Termination:
    cause = _cause(view, pod, end, engine, log)
    return Termination(
        place=f"{role(pod)}/{view.platform.place(pod)}",
        pod=pod["metadata"]["uid"],
        name=pod["metadata"]["name"],
        failures=end.failures,
        at=end.at,
        follows=not view.platform.leads(pod),
        # On the root object, and in the memory of who asked, lines that do not fill it.
        diagnosis=cause.model_copy(update={"log_tail": tuple(line[:_LINE] for line in cause.log_tail)}),
    )


def _cause(view: View, pod: Json, end: Ended, engine: Engine, log: tuple[str, ...]) -> Diagnosis:
    component = role(pod) or "?"
    diagnosis = engine.diagnose(Component(name=component, role=component), log, end.code)
    if diagnosis.kind != "crashed":
        return diagnosis
    if end.reason == "OOMKilled":
        return pod_diagnoses.host_memory(component, pod, diagnosis.log_tail)
    killed = last(_about(view, pod), "Killing")
    if re.search(r"failed (startup|liveness) probe", killed):
        return pod_diagnoses.probe_failed(component, killed, log[-pod_diagnoses.TAIL :])
    return diagnosis


def _about(view: View, pod: Json) -> list[Json]:
    """The events about a pod, and not about those that had its name before."""
    uids = (None, pod["metadata"]["uid"])
    return [e for e in about_one(view.events or (), pod["metadata"]["name"]) if e["involvedObject"].get("uid") in uids]


def _came_along(end: Termination) -> bool:
    return any(map(_AFTER_ANOTHER.search, end.diagnosis.log_tail))


def _counted(end: Termination, count: int, pods: int) -> Diagnosis:
    if pods == 1:
        return end.diagnosis
    message = f"{end.diagnosis.message}; {count} ends in {pods} pods that followed each other, this one in {end.name}"
    return end.diagnosis.model_copy(update={"message": message})
