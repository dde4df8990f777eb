"""The last words of the demo: what to run, how much better it is, and where to look."""

from __future__ import annotations

from rich.console import RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from wideloop.operators.commands.demo.snapshot import Snapshot
from wideloop.results.records import Recommendation


def recommendation(snapshot: Snapshot) -> RenderableType:
    """The recommendation card of a cycle that ended."""
    found = snapshot.recommendation
    if found is None:
        return Text("The cycle made no recommendation.", "red")
    knobs = Table.grid(padding=(0, 3))
    for role, mine in sorted(found.knobs.items()):
        for name, value in sorted(mine.items()):
            default = found.default_knobs.get(role, {}).get(name)
            note = "" if value == default else f"(default {default})"
            knobs.add_row(role, name.replace("_", " "), Text(str(value), "bold"), Text(note, "dim"))
    card = Table.grid()
    card.add_row(knobs)
    card.add_row("")
    card.add_row(gain(found))
    card.add_row(Text(found.reason, "dim"))
    marked = " (simulated: no measurement of hardware)" if found.simulated else ""
    return Panel(card, title=f"{_VERDICTS[found.verdict]}: trial {found.trial_number}{marked}", expand=False)


def gain(found: Recommendation) -> str:
    """E.g. ``+12.3 % output tok/s per GPU over the default (95 % interval +9.1 % to +15.0 %, 2 pairs)``."""
    return (
        f"{found.gain:+.1%} output tok/s per GPU over the default "
        f"({found.confidence:.0%} interval {found.gain_low:+.1%} to {found.gain_high:+.1%}, {found.pairs} pairs)"
    )


_VERDICTS = {"adopt": "Recommended", "keep default": "Keep the default", "inconclusive": "No clear winner"}
