"""Whether two deployments give the same answers to the same prompts, decoded greedily.

Expert placement must not change what a model says. It may change the order of sums, so that after many tokens two
nearly equal logits can swap; an engine that routes to the wrong experts differs from the first words on.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Literal

from pydantic import BaseModel, ConfigDict

#: Share of prompts that must be answered identically for ``same``; rounding may change the others.
_SAME = 0.8
#: Mean common beginning of two answers, as a share, above which the difference is rounding; below it ``different``.
_DRIFTED = 0.3


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
        before: of the first deployment. again: of the same deployment, asked a second time.
        after: of the other deployment.

    Raises:
        ValueError: there are no answers, or not equally many.
    """
    if not before or not len(before) == len(again) == len(after):
        raise ValueError(f"answers must be of the same prompts, not {len(before)}, {len(again)} and {len(after)}")
    identical, agreement = _alike(before, after)
    own, own_agreement = _alike(before, again)
    numbers = {"prompts": len(before), "identical": identical, "agreement": agreement}
    if own < _SAME:
        reason = (
            f"one deployment answered only {own:.0%} of the prompts alike when asked twice, greedily: its answers"
            " cannot show whether the placement changed them"
        )
        return Outputs(state="not comparable", reason=reason, **numbers)
    if identical >= min(own, _SAME):
        return Outputs(state="same", reason=f"{identical:.0%} of {len(before)} prompts answered alike", **numbers)
    if agreement >= _DRIFTED * own_agreement:
        reason = (
            f"{identical:.0%} of {len(before)} prompts answered alike, and {agreement:.0%} of an answer on average"
            " before they part: rounding, not routing"
        )
        return Outputs(state="drifted", reason=reason, **numbers)
    reason = f"answers part after {agreement:.0%} of their length: the placement changed what the model says"
    return Outputs(state="different", reason=reason, **numbers)


def _alike(one: Sequence[str], other: Sequence[str]) -> tuple[float, float]:
    """(share of identical answers, mean share of an answer that is alike from its beginning)."""
    pairs = list(zip(one, other, strict=True))
    shares = [_common(a, b) / max(len(a), len(b), 1) if a or b else 1.0 for a, b in pairs]
    return sum(a == b for a, b in pairs) / len(pairs), sum(shares) / len(shares)


def _common(one: str, other: str) -> int:
    """Characters that both begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
