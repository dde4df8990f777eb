"""What the demo prints after the cycle: the recommended configuration and its gain."""

from __future__ import annotations

from rich.console import RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from wideloop.operators.commands.demo.snapshot import Snapshot
from wideloop.results.records import Recommendation


def recommendation(snapshot: Snapshot) -> RenderableType:
    """The recommendation card of a cycle that ended."""
    result = snapshot.recommendation
    if result is None:
        return Text("The cycle made no recommendation.", "red")
    knobs = Table.grid(padding=(0, 3))
    for role, values in sorted(result.knobs.items()):
        for name, value in sorted(values.items()):
            default = result.default_knobs.get(role, {}).get(name)
            note = "" if value == default else f"(default {default})"
            knobs.add_row(role, name.replace("_", " "), Text(str(value), "bold"), Text(note, "dim"))
    card = Table.grid()
    card.add_row(knobs)
    card.add_row("")
    card.add_row(gain(result))
    card.add_row(Text(result.reason, "dim"))
    marked = " (simulated: no measurement of hardware)" if result.simulated else ""
    return Panel(card, title=f"{_VERDICTS[result.verdict]}: trial {result.trial_number}{marked}", expand=False)


def gain(result: Recommendation) -> str:
    """E.g. ``+12.3 % output tok/s per GPU over the default (95 % interval +9.1 % to +15.0 %, 2 pairs)``."""
    return (
        f"{result.gain:+.1%} output tok/s per GPU over the default "
        f"({result.confidence:.0%} interval {result.gain_low:+.1%} to {result.gain_high:+.1%}, {result.pairs} pairs)"
    )


_VERDICTS = {"adopt": "Recommended", "keep default": "Keep the default", "inconclusive": "No clear winner"}
