"""Remove what no live run owns."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from manifests.errors import TargetError
from operators.targets import target, target_names
from operators.targets.base import Owned


def sweep_up(is_live: Callable[[str, str], bool]) -> list[str]:
    """Delete every deployment of ours whose owner is gone; returns their names.

    ``is_live`` says whether the run (dag id, run id) is still queued or running. A deployment that was
    told to stay lives until its time is up. Objects without our mark are never listed, so never touched.

    Raises:
        TargetError: some could not be deleted; all others were.
    """
    removed, stuck = [], []
    for name in target_names():
        where = target(name)
        for owned in where.list_owned():
            if _wanted(owned, is_live):
                continue
            try:
                where.delete(owned.name)
                removed.append(f"{name}/{owned.name}")
            except (OSError, TargetError) as error:
                stuck.append(f"{name}/{owned.name}: {error}")
    if stuck:
        raise TargetError(f"removed {removed or 'nothing'}, but not {'; '.join(stuck)}")
    return removed


def _wanted(owned: Owned, is_live: Callable[[str, str], bool]) -> bool:
    if owned.owner is None:
        return False
    if owned.owner.keep_until is not None and datetime.now(UTC) < owned.owner.keep_until:
        return True
    return is_live(owned.owner.dag_id, owned.owner.run_id)
