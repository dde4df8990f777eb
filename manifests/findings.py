"""The result of a check: a field, its value, the rule it breaks and a value that would work."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, Literal

from pydantic import ValidationError
from wideloop.manifests.frozen import Frozen

#: ``error``: it cannot work on any account, and stops a launch. ``infeasible``: this configuration runs out of memory,
#: which stops a run that needs it, and is a result for a sweep. ``warning``: advice; it is shown and stops nothing.
Severity = Literal["error", "infeasible", "warning"]


class Finding(Frozen):
    """One result of a check. ``id`` is the name under which a warning can be accepted; by default its field."""

    field: str
    value: Any
    rule: str
    suggestion: str
    severity: Severity = "error"
    id: str = ""

    @property
    def name(self) -> str:
        return self.id or self.field

    def __str__(self) -> str:
        accepts = f" [{self.name}]" if self.severity == "warning" else ""
        return f"{self.severity}{accepts}: {self.field} = {self.value!r}: {self.rule}. {self.suggestion}"


def unknown(field: str, value: str, choices: Iterable[str]) -> Finding:
    """The finding for a name that is not one of ``known``, with the nearest one as suggestion."""
    names = sorted(choices)
    near = difflib.get_close_matches(value, names, n=1, cutoff=0.4)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    return Finding(
        field=field,
        value=value,
        rule="is not known",
        suggestion=f"{hint}Known: {', '.join(names)}",
    )


def invalid(error: ValidationError, prefix: str = "") -> list[Finding]:
    """The findings of values that a model refused, each with its field's path below ``prefix``.

    Args:
        prefix: where the values come from, e.g. a file.
    """
    return [_invalid(one, prefix) for one in error.errors()]


def _invalid(one: Any, prefix: str) -> Finding:
    path = ".".join(map(str, one["loc"]))
    value = None if one["type"] == "missing" else one["input"]
    return Finding(
        field=f"{prefix}: {path}" if prefix else path,
        value=value if isinstance(value, str | int | float | bool | None) else repr(value)[:200],
        rule=one["msg"],
        suggestion="Add it" if one["type"] == "missing" else "Correct it",
    )
