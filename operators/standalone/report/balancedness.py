"""How even each deployment's placement made the ranks' load: recorded where it was, else predicted."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from wideloop.operators.settings import settings
from wideloop.operators.standalone.report.rows import Row
from wideloop.operators.steps.experts.place import recorded
from wideloop.operators.steps.run import Run, artefacts
from wideloop.tuning.balance import balance
from wideloop.tuning.placement import Placement, read, trivial


class Balancedness(NamedTuple):
    """Mean over hottest rank load, 1 is even; predicted: the baseline's recording on the deployment's placement."""

    value: float
    source: Literal["recorded", "predicted"]


def balancedness(run: Run, rows: Sequence[Row]) -> dict[str, Balancedness]:
    """By deployment, of the worker that decodes.

    A recording stands for every deployment with the same placement. What can be told of none is left out: where
    nothing was recorded, or experts are rebalanced as the engine serves.
    """
    loads = {row.name: load for row in rows if (load := _recorded(run, row)) is not None}
    baseline = next((loads[row.name] for row in rows if row.name in loads and row.purpose == "baseline"), None)
    if baseline is None:
        return {}

    @lru_cache
    def placement(redundant: int, file: str | None, ep: int) -> Placement | None:
        return _placement(run, redundant, file, ep, baseline.shape)

    seen = {_key(row): loads[row.name] for row in rows if row.name in loads}
    found = {}
    for row in rows:
        experts = None if row.worker.knobs.eplb == "online" else placement(*_key(row))
        if experts is not None:
            load = seen.get(_key(row))
            value = balance(baseline if load is None else load, experts)
            found[row.name] = Balancedness(value, "predicted" if load is None else "recorded")
    return found


def _key(row: Row) -> tuple[int, str | None, int]:
    """What makes a deployment's placement; a kept one's name has its digest."""
    file = row.worker.knobs.expert_placement
    return row.worker.knobs.redundant_experts, Path(file).name if file else None, row.worker.layout.ep


def _recorded(run: Run, row: Row) -> Any:
    """Tokens, [layers, experts]; None where this deployment recorded none."""
    files = artefacts().list("cycles", run.cycle_id, "recordings", row.name)
    uris = [u for u in files if u.endswith(".npz") and u.rsplit("/", 1)[1].startswith(row.worker.role)]
    load = recorded(uris, run).total.astype(float) if uris else None
    return load if load is not None and load.any() else None


def _placement(run: Run, redundant: int, file: str | None, ep: int, shape: tuple[int, int]) -> Placement | None:
    """None where the file was not kept with the cycle."""
    layers, experts = shape
    if file is None:
        return trivial(layers, experts, redundant, ep)
    # By name: the path that the engine was given may be another host's.
    uri = next((u for u in artefacts().list("cycles", run.cycle_id, "placements") if u.endswith(f"/{file}")), None)
    if uri is None:
        return None
    local = settings().home / "scratch" / run.cycle_id / file
    return read(artefacts().get_file(uri, local), ep, experts, layers=layers)
