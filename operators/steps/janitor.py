"""Remove what no live run owns."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial

from manifests.errors import TargetError, WideloopError
from operators.steps.run import installation
from operators.targets import configured_targets, target
from operators.targets.base import Owned, Target

#: Deletes of one target that wait for their pods at the same time: one dead node must not shelter all others.
_AT_ONCE = 8


def sweep_up(is_live: Callable[[str, str], bool]) -> list[str]:
    """Delete every deployment of ours whose owner is gone; returns their names.

    ``is_live`` says whether the run (dag id, run id) is still queued or running. A deployment that was
    told to stay lives until its time is up. Objects without our mark are never listed, so never touched, and
    those of another installation are its own janitor's.

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
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for deployment, trouble in zip(unwanted, pool.map(partial(_delete, where), unwanted), strict=True):
                if trouble is None:
                    removed.append(f"{name}/{deployment}")
                else:
                    stuck.append(f"{name}/{deployment}: {trouble}")
    if stuck:
        raise TargetError(f"removed {removed or 'nothing'}, but not {'; '.join(stuck)}")
    return removed


def _delete(where: Target, deployment: str) -> str | None:
    """None when it is gone, else why not."""
    try:
        where.delete(deployment)
    except (OSError, WideloopError) as error:
        return str(error)
    return None


def _wanted(owned: Owned, is_live: Callable[[str, str], bool]) -> bool:
    if owned.owner is None:
        return False
    # Whether a run of another installation is live, its own Airflow knows and we do not.
    if owned.owner.installation not in ("", installation()):
        return True
    if owned.owner.keep_until is not None and datetime.now(UTC) < owned.owner.keep_until:
        return True
    return is_live(owned.owner.dag_id, owned.owner.run_id)
