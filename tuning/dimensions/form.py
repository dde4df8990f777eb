"""The form's fields of a dimension's bounds."""

from __future__ import annotations

from typing import Any

from wideloop.manifests.parameters import Parameter

#: Sections of the trigger form.
SWEEP, BY_ROLE = "Sweep", "Sweep of prefill and decode apart"


def upper_and_lower(
    names: tuple[str, str],
    title: str,
    help_upper: str,
    section: str,
    value_type: Any,
    defaults: tuple[float, float],
) -> tuple[Parameter, Parameter]:
    """A parameter for each end of a range."""
    low, high = names
    return (
        Parameter(low, f"{title}, at least", "Lower end of the search.", section, value_type, defaults[0]),
        Parameter(high, f"{title}, at most", help_upper, section, value_type, defaults[1]),
    )
