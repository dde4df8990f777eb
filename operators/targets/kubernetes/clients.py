"""Load generators and collectors beside a deployment: Jobs that run once."""

from __future__ import annotations

import time
from typing import Any

from wideloop.manifests.engines.base import Command
from wideloop.manifests.errors import ApiRefused, TargetError
from wideloop.manifests.kubernetes.jobs import client_job, client_job_name, owned_by
from wideloop.manifests.kubernetes.labels import MANAGER, OWNERSHIP
from wideloop.operators.targets.base import ClientStatus
from wideloop.operators.targets.kubernetes import view
from wideloop.operators.targets.kubernetes.cluster import Cluster
from wideloop.operators.targets.kubernetes.diagnosis import client_looks_stuck, diagnose_client
from wideloop.operators.targets.kubernetes.objects import delete, log_lines, require_ours
from wideloop.operators.targets.kubernetes.pods import main_exit_code, parse_time
from wideloop.operators.targets.kubernetes.view import View

Json = dict[str, Any]

#: Kept on a client's Job: the engine's pods it was started against.
_PODS = "wideloop/engine-pods"
_LOG_TAIL = 12
_POLL_S = 0.5


class Clients:
    """The clients of deployments in one namespace."""

    def __init__(self, cluster: Cluster, release_timeout_s: float) -> None:
        self._cluster = cluster
        self._release_timeout_s = release_timeout_s

    def run(self, name: str, client: str, command: Command, image: str) -> None:
        """Start a client unless one of its name was started before.

        Raises:
            TargetError: there is no such deployment, or the Job cannot be made.
        """
        api, options = self._cluster.api, self._cluster.options
        snapshot = view.look(api, options, self._cluster.platform, name)
        if snapshot.root is None:
            raise TargetError(f"there is no deployment {name} in namespace {options.namespace}")
        path = self._cluster.spec(name).model_path
        job = client_job(name, client, command, options, image, owned_by(snapshot.root), model_path=path)
        inherited = snapshot.root["metadata"].get("annotations") or {}
        job["metadata"]["annotations"] = {
            **{key: inherited[key] for key in OWNERSHIP if key in inherited},
            _PODS: snapshot.signature,
        }
        try:
            api.request("POST", view.jobs(options), {"fieldManager": MANAGER}, job)
        except ApiRefused as error:
            if error.reason != "AlreadyExists":
                raise
            existing = api.get(f"{view.jobs(options)}/{client_job_name(name, client)}")
            if existing is not None:
                require_ours(existing)

    def status(self, name: str, client: str) -> ClientStatus:
        """How a client is doing. One whose engine's pods were replaced under it has failed: it measured two things."""
        api, options = self._cluster.api, self._cluster.options
        held = self._cluster.watch.look(name)
        if held is not None and self._goes_on(held, client):
            stuck = client_looks_stuck(held, client)
            if not (stuck and self._cluster.due("look", client_job_name(name, client), view.LOOK_EVERY_S)):
                return ClientStatus(state="running", seconds=_seconds(held, held.client_job(client) or {}))
        snapshot = view.look(api, options, self._cluster.platform, name, clients=True)
        if client_looks_stuck(snapshot, client):
            snapshot = view.with_events(api, options, snapshot)
        return self._status(snapshot, client)

    def stop(self, name: str, client: str) -> bool:
        """End a client; returns when its pod is gone, whether there was one."""
        api, options = self._cluster.api, self._cluster.options
        job = f"{view.jobs(options)}/{client_job_name(name, client)}"
        job_there = api.get(job)
        if job_there is None:
            return False
        require_ours(job_there)
        delete(api, job)
        deadline = time.monotonic() + self._release_timeout_s
        while view.look(api, options, self._cluster.platform, name).client_pods(client):
            if time.monotonic() > deadline:
                raise TargetError(f"client {client} of {name} did not end within {self._release_timeout_s:.0f} s")
            time.sleep(_POLL_S)
        return True

    def _goes_on(self, snapshot: View, client: str) -> bool:
        job = snapshot.client_job(client)
        return (
            job is not None
            and _result(job) is None
            and _started_against(job) == snapshot.signature
            and diagnose_client(snapshot, client) is None
        )

    def _status(self, snapshot: View, client: str) -> ClientStatus:
        job = snapshot.client_job(client)
        if job is None:
            return ClientStatus(state="absent")
        seconds = _seconds(snapshot, job)
        if _started_against(job) != snapshot.signature:
            message = f"pods of {snapshot.name} were replaced or restarted while {client} ran"
            return ClientStatus(state="failed", seconds=seconds, log_tail=(message,))
        result = _result(job)
        stuck = diagnose_client(snapshot, client) if result is None else None
        if stuck is not None:
            return ClientStatus(state="failed", seconds=seconds, log_tail=(str(stuck),))
        if result is None:
            return ClientStatus(state="running", seconds=seconds)
        pods = snapshot.client_pods(client)
        if not pods:
            message = f"the pod of {client} is gone: {result.get('message') or 'deleted'}"
            state = "succeeded" if result["type"] == "Complete" else "failed"
            return ClientStatus(state=state, seconds=seconds, log_tail=(message,))
        return ClientStatus(
            state="succeeded" if result["type"] == "Complete" else "failed",
            exit_code=main_exit_code(pods[-1]),
            seconds=seconds,
            log_tail=log_lines(
                self._cluster.api, self._cluster.options.namespace, pods[-1]["metadata"]["name"], tail=_LOG_TAIL
            ),
        )


def _started_against(job: Json) -> str:
    return str((job["metadata"].get("annotations") or {}).get(_PODS))


def _result(job: Json) -> Json | None:
    """The condition that a Job ended with; None while it runs."""
    conditions = job.get("status", {}).get("conditions") or ()
    return next((c for c in conditions if c["type"] in ("Complete", "Failed") and c["status"] == "True"), None)


def _seconds(snapshot: View, job: Json) -> float:
    """From the Job's start to its end, or to now."""
    status = job.get("status") or {}
    if "startTime" not in status:
        return 0.0
    result = _result(job)
    ended = status.get("completionTime") or (result or {}).get("lastTransitionTime")
    until = parse_time(ended) if ended else snapshot.now
    return (until - parse_time(status["startTime"])).total_seconds()
