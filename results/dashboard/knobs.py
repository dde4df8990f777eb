"""Stored knobs for the page: worker, title, and the change from the default."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from wideloop.tuning.dimensions import DIMENSIONS, Dimension

#: Titles of knobs that no dimension varies; shown where they differ from the default's.
_OTHERS = {
    "eplb": "EPLB",
    "eplb_rebalance_iterations": "EPLB rebalance iterations",
    "expert_placement": "Expert placement",
    "placement": "Expert placement",
    "deepep_mode": "DeepEP mode",
    "deepep_dispatch_tokens": "DeepEP dispatch tokens",
    "two_batch_overlap": "Two-batch overlap",
    "max_running_requests": "Max running requests",
}
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
    """``knobs`` per role, the decoding one first. Knobs stored without roles get the role ``""``."""
    roles = {role: knobs[role] for role in _ROLES if isinstance(knobs.get(role), Mapping)}
    return roles or {"": knobs}


def decoding(knobs: Mapping[str, Any]) -> Mapping[str, Any]:
    """The knobs of the worker that decodes: the one whose memory and graphs are tuned."""
    return next(iter(by_role(knobs).values()))


def value_of(dimension: Dimension, knobs: Mapping[str, Any]) -> Any:
    """The knob of a dimension in stored ``knobs``; None where it was left to the engine or not stored."""
    roles = by_role(knobs)
    owner = next((roles[role] for role in dimension.roles if role in roles), roles.get("", {}))
    return owner.get(dimension.knob)


def searched(points: Iterable[Mapping[str, float]], stored: Sequence[Mapping[str, Any]]) -> list[Dimension]:
    """The dimensions that distinguish trials: the default ones, those of their ``points``, and those that differ.

    Trials stored before points had names of dimensions are compared by their ``stored`` knobs only.
    """
    names = {name for point in points for name in point}
    return [
        d
        for d in DIMENSIONS
        if d.by_default or d.name in names or (d.kept and len({value_of(d, knobs) for knobs in stored}) > 1)
    ]


def compared(default: Mapping[str, Any], value: Mapping[str, Any]) -> list[Dimension]:
    """The dimensions that describe a recommendation: the default ones, and those in which it differs."""
    return searched([], [default, value]) if default and value else searched([], [])


def of_a_trial(knobs: Mapping[str, Any], dimensions: Sequence[Dimension]) -> dict[str, Any]:
    """The knobs that distinguish trials, by the dimension's key, and the other knobs of the decoding worker."""
    return {**decoding(knobs), **{d.key: value_of(d, knobs) for d in dimensions}}


def label(knobs: Mapping[str, Any], dimensions: Sequence[Dimension] | None = None) -> str:
    """A short label for charts: redundant experts / memory fraction / graph batch, and other varied knobs."""
    dimensions = searched([], []) if dimensions is None else dimensions
    return " / ".join(d.label(text(value_of(d, knobs))) for d in dimensions)


def described(knobs: Mapping[str, Any], dimensions: Sequence[Dimension]) -> str:
    """All knobs that distinguish a trial, for a chart's hover text."""
    parts = [f"{d.short} {text(value_of(d, knobs))}" for d in dimensions]
    placement = decoding(knobs).get("placement")
    return ", ".join([*parts, f"placement {placement}"] if placement else parts)


def changes(
    default: Mapping[str, Any], value: Mapping[str, Any], dimensions: Sequence[Dimension] | None = None
) -> list[KnobChange]:
    """The varied knobs of every role that has them, and all other knobs that differ."""
    before, after = by_role(default), by_role(value)
    dimensions = compared(default, value) if dimensions is None else dimensions
    rows = []
    for role, knobs in after.items():
        own_last = sorted(dimensions, key=lambda d: role in d.roles)
        varied = {d.knob: d for d in own_last}
        old = before.get(role, {})
        for name in [*dict.fromkeys(d.knob for d in dimensions), *(n for n in knobs if n not in varied)]:
            was, now = old.get(name), knobs.get(name)
            if was != now or (name in varied and now is not None):
                title = varied[name].title if name in varied else _title(name)
                change = KnobChange(
                    role=role, name=name, title=title, default=text(was), value=text(now), changed=was != now
                )
                rows.append(change)
    return rows


def _title(knob: str) -> str:
    """Title of a knob that was not varied."""
    usual = {d.knob: d.title for d in reversed(DIMENSIONS)}
    return _OTHERS.get(knob) or usual.get(knob, knob)


def text(value: Any) -> str:
    """A knob's value for people. ``None`` leaves the choice to the engine."""
    if value is None:
        return "engine's own"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    return str(value)
