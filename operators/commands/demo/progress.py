"""Progress of a cycle in the terminal: a live table for a person, one line per change for a log."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text
from wideloop.operators.commands.demo.snapshot import Snapshot
from wideloop.results.records import Stage

_SIGNS = {"success": ("✓", "green"), "failed": ("✗", "red"), "skipped": ("-", "dim"), "running": ("●", "cyan")}


class Progress:
    """Shows one :class:`Snapshot` after the other; a context manager that leaves the terminal as it was."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._snapshot = Snapshot()
        self._doing = ""
        self._printed: set[str] = set()
        self._live = Live(get_renderable=self._render, console=console, refresh_per_second=4, transient=False)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._doing = ""
        if self._console.is_terminal:
            self._live.stop()

    def say(self, doing: str) -> None:
        """What is done while the store has nothing to show yet."""
        self._doing = doing
        self._print_once(doing)

    def show(self, snapshot: Snapshot, doing: str = "") -> None:
        """Show ``snapshot``; ``doing`` names what runs right now."""
        self._snapshot, self._doing = snapshot, doing
        for stage in snapshot.stages:
            detail = f" ({stage.detail})" if stage.detail and stage.state != "running" else ""
            self._print_once(f"{stage.name}: {stage.state}{detail}")
        self._print_once(snapshot.trials_line())
        self._print_once(snapshot.repeats_line())

    def _print_once(self, line: str) -> None:
        if line and not self._console.is_terminal and line not in self._printed:
            self._printed.add(line)
            # The text of engines is shown as it is: `[/usr/lib/...]` in a stack is no markup.
            self._console.print(f"{self._elapsed()}  {line}", highlight=False, soft_wrap=True, markup=False)

    def _elapsed(self) -> str:
        return duration(time.monotonic() - self._began)

    def _render(self) -> RenderableType:
        rows = Table.grid(padding=(0, 2))
        for stage in self._snapshot.stages:
            sign, style = _SIGNS[stage.state]
            rows.add_row(Text(sign, style), Text(stage.name), Text(_took(stage), "dim"), Text(stage.detail, "dim"))
        parts: list[RenderableType] = [rows] if self._snapshot.stages else []
        lines = (self._snapshot.trials_line(), self._snapshot.repeats_line())
        parts.extend(Text(f"   {line}") for line in lines if line)
        if self._doing:
            parts.append(Spinner("dots", text=Text.assemble((self._elapsed(), "dim"), "  ", self._doing)))
        return Group(*parts)


def _took(stage: Stage) -> str:
    return duration(((stage.ended_at or datetime.now(UTC)) - stage.started_at).total_seconds())


def duration(seconds: float) -> str:
    """Minutes and seconds, e.g. ``3:07``."""
    minutes, rest = divmod(max(0, int(seconds)), 60)
    return f"{minutes}:{rest:02d}"
