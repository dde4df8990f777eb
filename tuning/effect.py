"""Whether an engine applied a placement, judged by a second recording of the same workload.

Routing does not depend on where experts are, so a second recording must count the same logical experts. An engine that
moves the weights but not the routing (SGLang up to 0.5.21 for some models and dispatchers) uses the router's expert
numbers as slot numbers; its recorder then reports the first recording permuted by the placement, and its answers are
wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from wideloop.tuning.balance import drift, has_experts
from wideloop.tuning.placement import Placement, trivial

Floats = npt.NDArray[np.floating[Any]]

#: Correlation of two recordings of the same traffic; 0.9997 and 0.0 to 0.4 were measured for the two cases.
_SAME = 0.9


@dataclass(frozen=True, eq=False)
class Effect:
    """The effect of a placement between two recordings.

    Attributes:
        state: ``honoured``, ``ignored``, ``unclear`` (the traffic changed), or ``untold`` where the placement is the
            engine's own order, which both cases share.
        correlation: correlation of the logical counts with the first recording's, [layers with experts].
        permuted: correlation with the first recording as an ignored placement would permute it.
    """

    state: Literal["honoured", "ignored", "unclear", "untold"]
    correlation: Floats
    permuted: Floats

    @property
    def reason(self) -> str:
        """One sentence with the result and the next step."""
        same, permuted = float(np.median(self.correlation)), float(np.median(self.permuted))
        if self.state == "honoured":
            return f"the second recording counts the same experts (r = {same:.3f}): the placement is in effect"
        if self.state == "ignored":
            return (
                f"the second recording is the first one permuted by the placement (r = {permuted:.3f}, not {same:.3f}):"
                " the engine moved the weights but not the routing, so balance does not improve and answers are wrong."
                " Use SGLang 0.5.23 or later, or an all-to-all back end (deepep_mode), or go back to eplb 'off'"
            )
        if self.state == "unclear":
            return (
                f"the second recording counts other experts than the first (r = {same:.3f}): the traffic changed."
                " Record both times with the same workload and seed, and for longer"
            )
        return "the placement is the engine's own order, so its effect cannot be measured"


def effect(before: Floats, after: Floats, placement: Placement) -> Effect:
    """Compare two recordings, [layers, experts] each; ``placement`` was in effect, or should have been, in the second.

    Raises:
        ValueError: they are not of the same model, or share no layer with load.
    """
    before, after = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    same = drift(before, after, 1).correlation
    permuted = drift(ignoring(before, placement), after, 1).correlation
    layers = has_experts(before)
    own = trivial(placement.layers, before.shape[1], placement.slots - before.shape[1], placement.ep)
    moved = (placement.physical_to_logical != own.physical_to_logical)[layers][:, : before.shape[1]]
    return Effect(_state(bool(moved.any()), same, permuted), same, permuted)


def ignoring(load: Floats, placement: Placement) -> Floats:
    """The counts of ``load`` [layers, experts] when the router's expert numbers are used as slot numbers."""
    result = np.zeros_like(load)
    slots = placement.physical_to_logical[:, : load.shape[1]]
    rows = np.broadcast_to(np.arange(len(load))[:, None], slots.shape)
    np.add.at(result, (rows, slots), load)
    return result


def _state(moved: bool, same: Floats, permuted: Floats) -> Literal["honoured", "ignored", "unclear", "untold"]:
    # The correlation of a layer whose experts have equal load is undefined.
    comparable = ~np.isnan(same) & ~np.isnan(permuted)
    if not moved or not comparable.any():
        return "untold"
    if np.median(same[comparable]) >= _SAME:
        return "honoured"
    return "ignored" if np.median(permuted[comparable]) >= _SAME else "unclear"
