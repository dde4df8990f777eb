"""Make a placement from recording files, optionally close to the loaded one, and evaluate it on other traffic."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from wideloop.manifests.errors import Refused
from wideloop.manifests.findings import Finding
from wideloop.results.experts.analysis import sum_of_roles
from wideloop.results.recordings import ExpertRecording, load, read_dumps
from wideloop.tuning import balance
from wideloop.tuning.placement import Objective, Placement, balancedness, lower_bound, moved, optimise, read, trivial

Floats = npt.NDArray[np.floating[Any]]

#: Experts of a layer that are called hot.
_HOT = 16


class Made(NamedTuple):
    """A placement, and lines of text that describe its quality."""

    placement: Placement
    lines: tuple[str, ...]


def make(
    recording: Sequence[Path],
    ep: int,
    redundant: int = 0,
    windows: int = 1,
    objective: Objective = "mean",
    nodes: int = 1,
    groups: int = 1,
    *,
    current: Path | None = None,
    unseen: Sequence[Path] = (),
) -> Made:
    """Place experts by one recording, and evaluate the placement on it and on another one.

    Args:
        recording, unseen: a file of :func:`wideloop.results.recordings.save`, or dumps of all ranks of one worker.
        windows: of time that ``objective`` goes over. Other arguments: see :func:`wideloop.tuning.placement.optimise`.
        current: placement file that is loaded now, with the same number of slots.

    Raises:
        Refused: a file is no recording, of another model than the first, or too short; or numbers do not divide.
    """
    recorded = _recorded(recording)
    steps = sum_of_roles(recorded)
    if len(steps) < windows:
        rule = f"the recording has {len(steps)} windows of time"
        raise _refused("windows", windows, rule, f"Use {len(steps)} at most, or record in mode per_pass or for longer")
    total = steps.sum(axis=0)
    experts = total.shape[1]
    other = sum_of_roles(_recorded(unseen)).sum(axis=0) if unseen else None
    if other is not None and other.shape != total.shape:
        rule = f"has {other.shape[0]} layers of {other.shape[1]} experts, the first one {total.shape[0]} of {experts}"
        raise _refused("unseen", unseen[0], rule, "Use a recording of the same model")
    try:
        now = None if current is None else read(current, ep, experts, layers=len(total))
        parts = balance.windows(steps, windows) if windows > 1 else total
        plan = optimise(parts, ep, redundant, nodes=nodes, groups=groups, objective=objective, current=now)
    except ValueError as problem:
        rule = str(problem)
        raise _refused(
            "ep, redundant, nodes, groups", (ep, redundant, nodes, groups), rule, _would_do(experts, ep)
        ) from None
    placement = plan.placement
    lines = [*_doubts(recorded, ep), _compared("recorded traffic", total, placement, redundant)]
    if windows > 1:
        by_window = [balance.balance(window, placement) for window in parts]
        lines.append(f"its {windows} windows: balancedness {min(by_window):.3f} to {max(by_window):.3f}")
    if now is not None:
        lines.append(
            f"{int(moved(now, placement).sum())} of {placement.slots * placement.layers} slots get another expert"
        )
    if other is not None:
        lines += [_compared("unseen traffic", other, placement, redundant), _drifted(total, other)]
    return Made(placement, tuple(lines))


def _recorded(paths: Sequence[Path]) -> ExpertRecording:
    files = list(paths)
    return load(files[0]) if len(files) == 1 and files[0].suffix == ".npz" else read_dumps(files)


def _doubts(recording: ExpertRecording, ep: int) -> list[str]:
    """What about the recording should be looked at before its placement is used."""
    about = recording.provenance
    doubts = [f"doubtful: the recording {about['doubt']}"] if "doubt" in about else []
    if about.get("recorder") in ("per_pass", "per_token") and about["files"] != ep:
        doubts.append(f"{about['files']} ranks' files were read: right if they were recorded with EP {about['files']}")
    return doubts


def _compared(name: str, traffic: Floats, placement: Placement, redundant: int) -> str:
    busy = balance.has_experts(traffic)
    order = trivial(len(traffic), traffic.shape[1], redundant, placement.ep)
    before, after = (balancedness(traffic, one)[busy] for one in (order, placement))
    best = (
        traffic[busy].sum(axis=1)
        / placement.ep
        / lower_bound(traffic[busy], placement.ep, placement.slots // placement.ep)
    )
    return (
        f"{name}: balancedness {before.mean():.3f} in the engine's order, {after.mean():.3f} placed (worst layer "
        f"{before.min():.3f}, {after.min():.3f}); no placement is above {best.mean():.3f}"
    )


def _drifted(recorded: Floats, unseen: Floats) -> str:
    count = min(_HOT, recorded.shape[1])
    drift = balance.drift(recorded, unseen, count)
    return (
        f"between the two, {drift.moved.mean():.0%} of the tokens go to other experts; {drift.still_hot.mean():.0%} "
        f"of the {count} hottest experts of a layer stay hot"
    )


def _would_do(experts: int, ep: int) -> str:
    return f"Use e.g. {-experts % ep} redundant experts for {ep} ranks, and nodes that divide ranks and groups"


def _refused(field: str, value: object, rule: str, suggestion: str) -> Refused:
    return Refused([Finding(field=field, value=str(value), rule=rule, suggestion=suggestion)])
