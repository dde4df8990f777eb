"""Jobs of tasks by the runs that wait for them, and the removal of those that no run waits for any more."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from wideloop.manifests.errors import ApiRefused, TargetError
from wideloop.manifests.kubernetes.labels import MANAGER, follower_annotation, followers, selector
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.manifests.kubernetes.task_job import TASK
from wideloop.operators.targets.base import Owner, Preparation
from wideloop.operators.targets.kubernetes import view
from wideloop.operators.targets.kubernetes.api import MERGE, Api, Json
from wideloop.operators.targets.kubernetes.objects import delete, replaced, require_ours, wait_gone

#: What a pod and its Job may take to be gone.
_GONE_S = 60.0
#: How often a Job may change between reading and changing it.
_TRIES = 5


def preparations(api: Api, options: ClusterOptions) -> list[Preparation]:
    """Every Job of a task that exists, also one that has ended."""
    task_jobs, _ = api.list(view.jobs(options), {"labelSelector": f"{selector()},{TASK}"})
    return [Preparation(name=job["metadata"]["name"], owners=_owners(job)) for job in task_jobs]


def abandon(api: Api, options: ClusterOptions, name: str, owners: Collection[Owner]) -> bool:
    """Strike ``owners`` from those that wait for a Job, and remove it when they were the last; returns whether it was.

    Only a Job that is still as it was read is removed: a run that comes to wait for it meanwhile finds it going on.

    Raises:
        TargetError: its pod does not end.
    """
    path = f"{view.jobs(options)}/{name}"
    for _ in range(_TRIES):
        job = api.get(path)
        waiting = _owners(job) if job else ()
        if job is None or not set(waiting) & set(owners):
            return False
        require_ours(job)
        metadata = job["metadata"]
        if left := [owner for owner in waiting if owner not in owners]:
            if _strike(api, path, metadata["uid"], [owner for owner in waiting if owner not in left]):
                return False
        elif delete(api, path, propagation="Foreground", uid=metadata["uid"], version=metadata["resourceVersion"]):
            if not wait_gone(api, path, _GONE_S, uid=metadata["uid"]):
                raise TargetError(f"the pod of Job {name} has not ended within {_GONE_S:.0f} s: look at its node")
            return True
    raise TargetError(f"Job {name} changed during each of {_TRIES} attempts; the janitor tries again on its next run")


def _strike(api: Api, path: str, uid: str, owners: Sequence[Owner]) -> bool:
    """Whether they could be: the Job is still there."""
    keys = [key for owner in owners for key in follower_annotation(owner.dag_id, owner.run_id, owner.installation)]
    without = {"metadata": {"uid": uid, "annotations": dict.fromkeys(keys)}}
    try:
        api.request("PATCH", path, {"fieldManager": MANAGER}, without, content_type=MERGE)
    except ApiRefused as error:
        if not replaced(error):
            raise
        return False
    return True


def _owners(job: Json) -> tuple[Owner, ...]:
    return tuple(Owner.model_validate(follower) for follower in followers(job))
