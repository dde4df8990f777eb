"""Close a cycle's page: its final state, and an end for every stage that is still marked as running."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from wideloop.manifests.errors import WideloopError
from wideloop.operators.steps.run import Run, open_store

#: The task whose failure means that nothing was started.
CHECK = "check_request"


class CycleFailed(WideloopError):
    """A stage of the cycle failed; names it and says why."""


def close(run: Run, failed_tasks: Sequence[str]) -> None:
    """Write the cycle's end.

    Raises:
        CycleFailed: ``failed_tasks`` is not empty; the run must not be green.
    """
    if run.for_cycle is not None and CHECK in failed_tasks:
        # The request was refused before it changed the cycle that it was to continue.
        raise CycleFailed(f"refused to continue {run.for_cycle}; see the log of {CHECK}")
    now = datetime.now(UTC)
    with open_store() as store:
        cycle = store.cycle(run.cycle_id)
        stages = store.stages(run.cycle_id)
        left = [s for s in stages if s.state == "running"]
        state = "failed" if failed_tasks else "success"
        store.put(*(s.model_copy(update={"state": state, "ended_at": now}) for s in left))
        if cycle is not None:
            store.put(cycle.model_copy(update={"state": state, "ended_at": now}))
        failed = [s for s in store.stages(run.cycle_id) if s.state == "failed"]
    if failed_tasks:
        why = "; ".join(f"{s.name}: {s.detail or 'see its log'}" for s in failed)
        raise CycleFailed(f"failed tasks: {', '.join(failed_tasks)}. {why}")
