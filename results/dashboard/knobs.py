"""Knobs as a reader wants them: which worker's, under which name, changed from what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

#: Shown always and in this order; every other knob only where it differs from the default.
TUNED = {
    "redundant_experts": "Redundant experts",
    "mem_fraction_static": "Memory fraction",
    "cuda_graph_max_bs": "CUDA-graph max batch",
}
_OTHERS = {
    "eplb": "EPLB",
    "eplb_rebalance_iterations": "EPLB rebalance iterations",
    "expert_placement": "Expert placement",
    "placement": "Expert placement",
    "deepep_mode": "DeepEP mode",
    "deepep_dispatch_tokens": "DeepEP dispatch tokens",
    "two_batch_overlap": "Two-batch overlap",
    "chunked_prefill_size": "Chunked prefill size",
    "max_running_requests": "Max running requests",
}
TITLES = TUNED | _OTHERS
_ROLES = ("decode", "aggregated", "prefill")


class KnobChange(BaseModel):
    """One knob of one role: the default's value, the recommended one, and whether they differ."""

    role: str
    name: str
    title: str
    default: str
    value: str
    changed: bool


def by_role(knobs: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """``knobs`` per role, the decoding one first. Knobs that were given flat belong to no role: ``""``."""
    roles = {role: knobs[role] for role in _ROLES if isinstance(knobs.get(role), Mapping)}
    return roles or {"": knobs}


def decoding(knobs: Mapping[str, Any]) -> Mapping[str, Any]:
    """The knobs of the worker that decodes: the one whose memory and graphs are tuned."""
    return next(iter(by_role(knobs).values()))


def of_a_trial(knobs: Mapping[str, Any]) -> dict[str, Any]:
    """What tells trials apart: the decoding worker's knobs, and the prefill chunk of whichever worker prefills."""
    chunks = [k["chunked_prefill_size"] for k in by_role(knobs).values() if k.get("chunked_prefill_size") is not None]
    return {**decoding(knobs), **({"chunked_prefill_size": chunks[-1]} if chunks else {})}


def label(knobs: Mapping[str, Any]) -> str:
    """As short as a chart needs it: redundant experts / memory fraction / graph batch."""
    mine = decoding(knobs)
    return f"R{text(mine.get('redundant_experts'))} / {text(mine.get('mem_fraction_static'))} / " + text(
        mine.get("cuda_graph_max_bs")
    )


def changes(default: Mapping[str, Any], value: Mapping[str, Any]) -> list[KnobChange]:
    """The tuned knobs of every role that has them, and whatever else differs."""
    before, after = by_role(default), by_role(value)
    rows = []
    for role, knobs in after.items():
        old = before.get(role, {})
        for name in [*TUNED, *(n for n in knobs if n not in TUNED)]:
            was, now = old.get(name), knobs.get(name)
            if was != now or (name in TUNED and now is not None):
                title = TITLES.get(name, name)
                rows.append(
                    KnobChange(
                        role=role, name=name, title=title, default=text(was), value=text(now), changed=was != now
                    )
                )
    return rows


def text(value: Any) -> str:
    """A knob's value for people. ``None`` leaves the choice to the engine."""
    if value is None:
        return "engine's own"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    return str(value)
