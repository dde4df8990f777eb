"""Figures as Markdown, one section per group between markers, so that one group can be measured again."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tests.bench.figure import Figure

TITLE = """\
# What was measured

Written by `make bench`, by nothing else. Each section says when, of which commit and on which machine. A target
is an upper limit. CPU seconds count all threads and waited-for children; they and memory depend less on the
machine than minutes do. The engine is simulated: these are figures of this project, not of any GPU.
"""
_HEAD = ("Figure", "Target", "Measured", "Met", "What it is made of")


def table(figures: Sequence[Figure]) -> str:
    """A Markdown table, a row per figure."""
    rows = [_HEAD, ("---",) * len(_HEAD), *(_row(f) for f in figures)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


def section(name: str, heading: str, figures: Sequence[Figure]) -> str:
    """The group ``name`` with its markers; ``heading`` says how and where it was measured."""
    return f"{_begin(name)}\n## {name}\n\n{heading}\n\n{table(figures)}\n{_end(name)}"


def replaced(document: str, name: str, text: str) -> str:
    """``document`` with the section ``name`` replaced by ``text``, or with it at the end."""
    document = document or TITLE
    section = re.compile(re.escape(_begin(name)) + ".*?" + re.escape(_end(name)), re.DOTALL)
    if section.search(document):
        return section.sub(lambda _: text, document, count=1)
    return f"{document.rstrip()}\n\n{text}\n"


def _row(figure: Figure) -> tuple[str, ...]:
    met = {None: "", True: "yes", False: "**no**"}[figure.met]
    target = "" if figure.target is None else f"≤ {figure.target:g} {figure.unit}"
    return figure.name, target, f"{_shown(figure.value)} {figure.unit}", met, figure.made_of


def _shown(value: float) -> str:
    return f"{value:.0f}" if value == int(value) else f"{value:.2f}"


def _begin(name: str) -> str:
    return f"<!-- bench:{name} -->"


def _end(name: str) -> str:
    return f"<!-- /bench:{name} -->"
