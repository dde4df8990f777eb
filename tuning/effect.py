"""Whether an engine did with a placement what it was told: seen in a second recording of the same workload.

Routing does not depend on where experts are, so a second recording must count the same logical experts. An engine that
moves the weights but not the routing (SGLang up to 0.5.21 for some models and dispatchers) uses the router's expert
numbers as slot numbers, and then its recorder reports the first recording permuted by the placement. Its answers are
wrong, too.
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
    """What a second recording says about the placement in between.

    Attributes:
        state: ``honoured``, ``ignored``, ``unclear`` (the traffic changed), or ``untold`` where the placement is the
            engine's own order, so that there is nothing to tell.
        correlation: of the logical counts with the first recording's, [layers with experts].
        permuted: the same with what ignoring the placement would have made of the first recording.
    """

    state: Literal["honoured", "ignored", "unclear", "untold"]
    correlation: Floats
    permuted: Floats

    @property
    def reason(self) -> str:
        """One sentence, with what to do."""
        same, permuted = float(np.median(self.correlation)), float(np.median(self.permuted))
        if self.state == "honoured":
            return f"the second recording counts the same experts (r = {same:.3f}): the placement is in effect"
        if self.state == "ignored":
            return (
                f"the second recording is the first one permuted by the placement (r = {permuted:.3f}, not {same:.3f}):"
                " the engine moved the weights but not the routing, so balance is not gained and answers are wrong."
                " Use SGLang 0.5.23 or later, or an all-to-all back end (deepep_mode), or go back to eplb 'off'"
            )
        if self.state == "unclear":
            return (
                f"the second recording counts other experts than the first (r = {same:.3f}): the traffic changed."
                " Record both times with the same workload and seed, and for longer"
            )
        return "the placement is the engine's own order, so there is nothing to tell"


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
    """What is counted of ``load`` [layers, experts] when the router's numbers are taken for slots."""
    result = np.zeros_like(load)
    slots = placement.physical_to_logical[:, : load.shape[1]]
    rows = np.broadcast_to(np.arange(len(load))[:, None], slots.shape)
    np.add.at(result, (rows, slots), load)
    return result


def _state(moved: bool, same: Floats, permuted: Floats) -> Literal["honoured", "ignored", "unclear", "untold"]:
    # A layer whose experts are all used alike correlates with nothing.
    comparable = ~np.isnan(same) & ~np.isnan(permuted)
    if not moved or not comparable.any():
        return "untold"
    if np.median(same[comparable]) >= _SAME:
        return "honoured"
    return "ignored" if np.median(permuted[comparable]) >= _SAME else "unclear"
