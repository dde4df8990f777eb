"""Whether two deployments give the same answers to the same prompts, decoded greedily.

Expert placement must not change what a model says. It may change the order of sums, so that after many tokens two
nearly equal logits can swap; an engine that routes to the wrong experts differs from the first words on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import takewhile
from typing import Literal

from pydantic import BaseModel, ConfigDict

#: Least share of prompts that one configuration answers alike in two runs, or of an answer that is alike: below it the
#: engine's own scatter hides what a placement does.
_COMPARABLE = 0.3
#: Share of the agreement between two runs without a change, below which answers part for another reason than rounding.
_DRIFTED = 0.5
#: Standard errors that a share may lie below that of two runs without a change.
_ERRORS = 2.0


class Outputs(BaseModel):
    """Attributes:
    state: ``same``, ``drifted`` (same beginnings: rounding), ``different``, or ``not comparable`` where the engine
        does not answer a prompt alike twice.
    identical: share of prompts answered alike. agreement: mean share of an answer, from its beginning, that is alike.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    state: Literal["same", "drifted", "different", "not comparable"]
    prompts: int
    identical: float
    agreement: float
    reason: str


def compared(before: Sequence[str], again: Sequence[str], after: Sequence[str]) -> Outputs:
    """Compare the answers to the same prompts.

    Args:
        before: of the first deployment. again: of the same configuration, asked a second time.
        after: of the other deployment.

    Raises:
        ValueError: there are no answers, or not equally many.
    """
    if not before or not len(before) == len(again) == len(after):
        raise ValueError(f"answers must be of the same prompts, not {len(before)}, {len(again)} and {len(after)}")
    identical, agreement = _alike(before, after)
    own, own_agreement = _alike(before, again)
    numbers = {"prompts": len(before), "identical": identical, "agreement": agreement}
    alike = f"{identical:.0%} of {len(before)} prompts answered alike, {own:.0%} in two runs without a change"
    if own_agreement < _COMPARABLE:
        reason = (
            f"one configuration answered only {own:.0%} of the prompts alike when asked twice, greedily: its answers"
            " cannot show whether the placement changed them"
        )
        return Outputs(state="not comparable", reason=reason, **numbers)
    if identical >= own - _tolerance(own, identical, len(before)):
        return Outputs(state="same", reason=alike, **numbers)
    if agreement >= _DRIFTED * own_agreement:
        reason = f"{alike}; {agreement:.0%} of an answer on average before they part: rounding, not routing"
        return Outputs(state="drifted", reason=reason, **numbers)
    reason = (
        f"{alike}; answers part after {agreement:.0%} of their length, after {own_agreement:.0%} without a change: the "
        "placement changed what the model says"
    )
    return Outputs(state="different", reason=reason, **numbers)


def _tolerance(own: float, identical: float, prompts: int) -> float:
    """Two standard errors of the difference of both shares; at least one prompt's worth."""
    variance = (own * (1 - own) + identical * (1 - identical)) / prompts
    return max(_ERRORS * math.sqrt(variance), 1 / prompts)


def _alike(one: Sequence[str], other: Sequence[str]) -> tuple[float, float]:
    """(share of identical answers, mean share of an answer that is alike from its beginning)."""
    pairs = list(zip(one, other, strict=True))
    shares = [_common(a, b) / max(len(a), len(b), 1) if a or b else 1.0 for a, b in pairs]
    return sum(a == b for a, b in pairs) / len(pairs), sum(shares) / len(shares)


def _common(one: str, other: str) -> int:
    """Characters that both begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
