"""Remove what no live run owns."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from manifests.errors import TargetError, WideloopError
from operators.targets import configured_targets, target
from operators.targets.base import Owned


def sweep_up(is_live: Callable[[str, str], bool]) -> list[str]:
    """Delete every deployment of ours whose owner is gone; returns their names.

    ``is_live`` says whether the run (dag id, run id) is still queued or running. A deployment that was
    told to stay lives until its time is up. Objects without our mark are never listed, so never touched.

    Raises:
        TargetError: some could not be listed or deleted; all others were.
    """
    removed, stuck = [], []
    for name in configured_targets():
        where = target(name)
        try:
            unwanted = [owned.name for owned in where.list_owned() if not _wanted(owned, is_live)]
        except (OSError, WideloopError) as error:
            # One that does not answer shelters none of the others' deployments.
            stuck.append(f"{name}: {error}")
            continue
        for deployment in unwanted:
            try:
                where.delete(deployment)
                removed.append(f"{name}/{deployment}")
            except (OSError, WideloopError) as error:
                stuck.append(f"{name}/{deployment}: {error}")
    if stuck:
        raise TargetError(f"removed {removed or 'nothing'}, but not {'; '.join(stuck)}")
    return removed


def _wanted(owned: Owned, is_live: Callable[[str, str], bool]) -> bool:
    if owned.owner is None:
        return False
    if owned.owner.keep_until is not None and datetime.now(UTC) < owned.owner.keep_until:
        return True
    return is_live(owned.owner.dag_id, owned.owner.run_id)
