"""Remove deployments and preparations that no live run owns."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial

from wideloop.manifests.errors import TargetError, WideloopError
from wideloop.operators.steps.run import installation
from wideloop.operators.targets import configured_targets, open_target
from wideloop.operators.targets.base import Owned, Owner, Preparation, Target

#: Removals at the same time per target, so that one dead node does not block all others.
_AT_ONCE = 8
IsLive = Callable[[str, str], bool]


def remove_orphans(is_live: IsLive) -> list[str]:
    """Delete every deployment and preparation whose owners have ended; returns their names.

    ``is_live`` says whether the run (dag id, run id) is still queued or running. A deployment with
    ``keep_hours`` stays until then. Objects without this project's labels are never listed, so never deleted;
    those of another installation are left to its own janitor.

    Raises:
        TargetError: some could not be listed or deleted; all others were.
    """
    removed, stuck = [], []
    for name in configured_targets():
        target = open_target(name)
        try:
            unwanted = _unwanted(target, is_live)
        except (OSError, WideloopError) as error:
            # A target that does not answer must not block the others.
            stuck.append(f"{name}: {error}")
            continue
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for thing, ended in zip(unwanted, pool.map(_end, unwanted.values()), strict=True):
                if isinstance(ended, str):
                    stuck.append(f"{name}/{thing}: {ended}")
                elif ended:
                    removed.append(f"{name}/{thing}")
    if stuck:
        raise TargetError(f"removed {removed or 'nothing'}, but not {'; '.join(stuck)}")
    return removed


def _unwanted(target: Target, is_live: IsLive) -> dict[str, Callable[[], bool]]:
    """What to remove, by name: a function that removes it and returns whether it did."""
    removals: dict[str, Callable[[], bool]] = {}
    for owned in target.list_owned():
        if not _wanted(owned, is_live):
            removals[owned.name] = partial(_delete, target, owned.name)
    for preparation in target.preparations():
        if over := _over(preparation, is_live):
            removals[preparation.name] = partial(target.abandon, preparation.name, over)
    return removals


def _delete(target: Target, deployment: str) -> bool:
    target.delete(deployment)
    return True


def _end(remove: Callable[[], bool]) -> bool | str:
    """Whether it was removed, or why it cannot be."""
    try:
        return remove()
    except (OSError, WideloopError) as error:
        return str(error)


def _wanted(owned: Owned, is_live: IsLive) -> bool:
    return owned.owner is not None and _is_live(owned.owner, is_live)


def _over(preparation: Preparation, is_live: IsLive) -> list[Owner]:
    """Those of its owners whose runs are over."""
    return [owner for owner in preparation.owners if not _is_live(owner, is_live)]


def _is_live(owner: Owner, is_live: IsLive) -> bool:
    # Only its own Airflow knows whether a run of another installation is live.
    if owner.installation not in ("", installation()):
        return True
    if owner.keep_until is not None and datetime.now(UTC) < owner.keep_until:
        return True
    return is_live(owner.dag_id, owner.run_id)
