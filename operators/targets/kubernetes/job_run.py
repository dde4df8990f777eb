"""Run a task's Job to its end: relay its log, return its result, and leave nothing of it behind.

The Job is named after its work, so a second caller, or a retry after its process died, finds the Job of the first one
and follows it. Whoever sees its end first writes the result on the Job, and the cluster removes it
once all who follow it have had time to see that. The Job names the runs that follow it: when all of them are over, the
janitor removes it (see :mod:`wideloop.operators.targets.kubernetes.preparations`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from wideloop.manifests.errors import ApiRefused, ApiUnreachable, TargetError
from wideloop.manifests.kubernetes.labels import MANAGER, follower_annotation
from wideloop.operators.targets.base import Owner
from wideloop.operators.targets.kubernetes.api import MERGE, Api, Json
from wideloop.operators.targets.kubernetes.objects import (
    apply,
    collection,
    delete,
    follow_log,
    path_of,
    replaced,
    require_ours,
    settled,
    wait_gone,
)
from wideloop.operators.targets.kubernetes.pod_start import creation_failure, start_failure

_POLL_S = 1.0
#: Silence after which a log is asked for again: connections die unnoticed.
_SILENCE_S = 60.0
_GONE_S = 60.0
#: How often a Job may vanish between the look at it and the next step.
_MAX_ATTEMPTS = 3
#: What the cluster may take on top of a Job's own limit to say that it is over.
_MARGIN_S = 60.0
#: Refusals of a log that say nothing new: it does not exist yet or any more, or the API server is restarted.
_NO_LOG = (400, 404, 429, 503)
#: Annotation of a Job that ended well: what it left.
RESULT = "wideloop/result"
#: How long a Job whose end was seen stays for others who follow it; each looks at it every second.
KEPT_S = 10


def run_to_end(
    api: Api,
    documents: Sequence[Json],
    owner: Owner | None = None,
    *,
    say: Callable[[str], None] = print,
    pending_s: float = 600.0,
) -> str:
    """What the task of ``documents`` (see ``wideloop.manifests.kubernetes.task_job``) left as its result.

    Whatever comes of it, Job, pods and files go; only a process that is killed leaves them to its retry.

    Args:
        owner: the run that waits for it; None: of a Job that nobody else waits for, only its limit is the end.
        say: is given every line of the task's log.
        pending_s: how long its pod may take to start where nothing says that it never will, and nothing that it is
            on its way.

    Raises:
        TargetError: it failed, cannot start, takes too long, or left no result; with what it said last and what to do.
    """
    uid = _find_or_make(api, documents, owner)["metadata"]["uid"]
    try:
        result = _Follower(api, documents[0], say, pending_s).result()
    except ApiUnreachable:
        raise
    except _Failed:
        _publish(api, documents[0], uid, "")
        raise
    except TargetError:
        _remove(api, documents, uid)
        raise
    _publish(api, documents[0], uid, result)
    return result


class _Failed(TargetError):
    """The Job has ended, and not well."""


def _find_or_make(api: Api, documents: Sequence[Json], owner: Owner | None) -> Json:
    """The Job of this work with its files: one that runs, or whose result was not taken yet, else a new one.

    Raises:
        TargetError: the name belongs to a Job of another owner, or the Job is removed again and again.
    """
    for _ in range(_MAX_ATTEMPTS):
        job_there = settled(api, path_of(documents[0]))
        if job_there is None:
            job = _make(api, documents[0], owner)
        else:
            require_ours(job_there)
            if not _can_be_joined(job_there):
                _remove(api, documents, job_there["metadata"]["uid"])
                continue
            job = _join(api, documents[0], job_there["metadata"]["uid"], owner)
        if job is not None:
            _give_files(api, documents, job["metadata"]["uid"])
            return job
    name = documents[0]["metadata"]["name"]
    raise TargetError(
        f"Job {name} was removed each time it was made. Find out who deletes it, then start the task again"
    )


def _make(api: Api, job: Json, owner: Owner | None) -> Json | None:
    """A new Job; None when another has just made it."""
    metadata = {**job["metadata"], "annotations": _waits_for_it(owner)}
    everything = collection("batch/v1", "Job", metadata["namespace"])
    try:
        return api.request("POST", everything, {"fieldManager": MANAGER}, {**job, "metadata": metadata})
    except ApiRefused as error:
        if error.reason != "AlreadyExists":
            raise
        return None


def _join(api: Api, job: Json, uid: str, owner: Owner | None) -> Json | None:
    """Say on this very Job that one more run waits for it; None when it is being removed, or has failed."""
    change = {"metadata": {"uid": uid, "annotations": _waits_for_it(owner)}}
    try:
        joined = api.request("PATCH", path_of(job), {"fieldManager": MANAGER}, change, content_type=MERGE)
    except ApiRefused as error:
        if not replaced(error):
            raise
        return None
    return joined if _can_be_joined(joined) else None


def _waits_for_it(owner: Owner | None) -> dict[str, str]:
    return follower_annotation(owner.dag_id, owner.run_id, owner.installation) if owner else {}


def _can_be_joined(job: Json) -> bool:
    metadata = job["metadata"]
    taken = RESULT in (metadata.get("annotations") or {})
    return not (taken or _ended(job) == "Failed" or metadata.get("deletionTimestamp"))


def _give_files(api: Api, documents: Sequence[Json], uid: str) -> None:
    """Make the Job's files, which go with it; its pod waits for them."""
    job, *files = documents
    reference = {"apiVersion": "batch/v1", "kind": "Job", "name": job["metadata"]["name"], "uid": uid}
    for document in files:
        apply(api, {**document, "metadata": {**document["metadata"], "ownerReferences": [reference]}})


def _publish(api: Api, job: Json, uid: str, result: str) -> None:
    """Write the result where others who follow this very Job find it, and have the cluster remove it soon."""
    changes: Json = {"metadata": {"uid": uid}, "spec": {"ttlSecondsAfterFinished": KEPT_S}}
    if result:
        changes["metadata"]["annotations"] = {RESULT: result}
    try:
        api.request("PATCH", path_of(job), {"fieldManager": MANAGER}, changes, content_type=MERGE)
    except TargetError:
        # The result is known, and the cluster removes a finished Job after a while.
        return


def _remove(api: Api, documents: Sequence[Json], uid: str) -> None:
    """Remove this very Job with its pods, and its files."""
    job, *files = map(path_of, documents)
    if delete(api, job, propagation="Foreground", uid=uid):
        wait_gone(api, job, _GONE_S)
        for path in files:
            # The cluster would, some time later.
            delete(api, path)


class _Follower:
    """One Job from its start to its end."""

    def __init__(self, api: Api, job: Json, say: Callable[[str], None], pending_s: float) -> None:
        self._api = api
        self._path = path_of(job)
        self._name = job["metadata"]["name"]
        self._namespace = job["metadata"]["namespace"]
        self._say = say
        self._pending_s = pending_s
        self._limit_s = job["spec"]["activeDeadlineSeconds"] + _MARGIN_S
        #: Time stamp of the last line that was relayed, by pod.
        self._last_stamp: dict[str, str] = {}
        #: Status of the last refusal of the log that was reported.
        self._refused = 0

    def result(self) -> str:
        """The result of the pod that succeeded."""
        began = time.monotonic()
        while True:
            job = self._api.get(self._path)
            if job is None:
                raise TargetError(f"Job {self._name} was removed while it ran. Start the task again")
            pod = self._newest_pod()
            if pod is not None and _has_begun(pod):
                self._follow(pod["metadata"]["name"])
            if ended := _ended(job):
                # The pod again: its last state may be newer than the look above.
                return self._conclude(job, ended, self._newest_pod())
            waited = time.monotonic() - began
            if pod is None or not _has_begun(pod):
                self._check_start(pod, waited)
            if waited > self._limit_s:
                raise TargetError(f"Job {self._name} has not ended after {waited:.0f} s")
            time.sleep(_POLL_S)

    def _newest_pod(self) -> Json | None:
        pods = collection("v1", "Pod", self._namespace)
        pods_of_job, _ = self._api.list(pods, {"labelSelector": f"batch.kubernetes.io/job-name={self._name}"})
        return max(pods_of_job, key=lambda p: str(p["metadata"]["creationTimestamp"]), default=None)

    def _follow(self, pod: str) -> None:
        """Relay the lines of the pod's log that were not relayed yet, until the log or the connection ends."""
        try:
            for line in follow_log(
                self._api, self._namespace, pod, since=self._last_stamp.get(pod, ""), timeout_s=_SILENCE_S
            ):
                stamp, _, text = line.partition(" ")
                self._last_stamp[pod] = stamp
                self._say(text)
        except TargetError as error:
            # Silence, a connection that broke, a node that cannot be reached: the Job itself tells which, and the next
            # look goes on after the last line.
            if isinstance(error, ApiRefused) and error.status not in (*_NO_LOG, self._refused):
                self._refused = error.status
                self._say(f"the log cannot be read now, the task goes on: {error}")

    def _check_start(self, pod: Json | None, waited_s: float) -> None:
        """Raise when the pod cannot start, or has not for too long."""
        events = self._events(pod["metadata"]["name"] if pod else self._name)
        if pod is None:
            diagnosis = creation_failure(self._name, events)
        else:
            diagnosis = start_failure(self._name, pod, events, waited_s)
        if diagnosis is not None:
            raise TargetError(str(diagnosis))
        if waited_s > self._pending_s and not _on_its_way([str(event.get("reason")) for event in events]):
            reason = events[-1].get("message") if events else "no event gives a reason"
            raise TargetError(f"Job {self._name} has not started after {waited_s:.0f} s: {reason}")

    def _events(self, subject: str) -> list[Json]:
        query = {"fieldSelector": f"involvedObject.name={subject}"}
        events, _ = self._api.list(collection("v1", "Event", self._namespace), query)
        return sorted(events, key=lambda e: str(e.get("lastTimestamp") or e["metadata"]["creationTimestamp"]))

    def _conclude(self, job: Json, ended: str, pod: Json | None) -> str:
        terminated = _terminated(pod)
        message = str(terminated.get("message") or "").strip()
        if ended == "Complete":
            result = (job["metadata"].get("annotations") or {}).get(RESULT) or message
            if not result:
                gone = "" if pod else ": its pod has been removed"
                raise TargetError(f"Job {self._name} ended well and left no result{gone}. Start the task again")
            return str(result)
        condition = next(c for c in job["status"]["conditions"] if c["type"] == "Failed")
        if condition.get("reason") == "DeadlineExceeded":
            raise _Failed(
                f"Job {self._name} had not ended within its limit of {job['spec']['activeDeadlineSeconds']} s and was "
                "stopped. Raise the limit (build_timeout_s, download_timeout_s) when its log shows progress"
            )
        how = terminated.get("reason") or condition.get("reason")
        code = f", exit code {terminated['exitCode']}" if "exitCode" in terminated else ""
        last = "".join(f"\n    | {line}" for line in message.splitlines()[-20:])
        raise _Failed(f"Job {self._name} failed ({how}{code}){last}")


def _on_its_way(reasons: Sequence[str]) -> bool:
    """Whether events, oldest first, say of a pod that its image comes, or a node for it: both may take long."""
    return reasons[-1:] == ["Pulling"] or ("TriggeredScaleUp" in reasons and "Scheduled" not in reasons)


def _ended(job: Mapping[str, Any]) -> str:
    """``Complete``, ``Failed``, or empty while it lasts."""
    conditions = (job.get("status") or {}).get("conditions") or ()
    return next((c["type"] for c in conditions if c["type"] in ("Complete", "Failed") and c["status"] == "True"), "")


def _state(pod: Mapping[str, Any] | None) -> Mapping[str, Any]:
    statuses = ((pod or {}).get("status") or {}).get("containerStatuses") or ()
    return (statuses[0].get("state") or {}) if statuses else {}


def _terminated(pod: Mapping[str, Any] | None) -> Mapping[str, Any]:
    return _state(pod).get("terminated") or {}


def _has_begun(pod: Mapping[str, Any]) -> bool:
    return "running" in _state(pod) or "terminated" in _state(pod)
