"""One line of the preflight, and the table of all."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

from wideloop.manifests.findings import Finding

_WIDTH = 160


@dataclass(frozen=True)
class CheckResult:
    """What was looked at and what was found.

    Attributes:
        name: what was looked at. found: what is there, for the table.
        findings: what is wrong with it, and what to do.
        made: False when it could not be looked at, and ``found`` says why.
    """

    name: str
    found: str
    findings: tuple[Finding, ...] = ()
    made: bool = True

    @property
    def state(self) -> str:
        """``ok``, ``warning``, ``infeasible``, ``error``; ``not checked``."""
        severities = {f.severity for f in self.findings}
        for worst in ("error", "infeasible"):
            if worst in severities:
                return worst
        return "warning" if severities else "ok" if self.made else "not checked"


def table(checks: Sequence[CheckResult]) -> str:
    """Check, finding and what to do, for a task's log."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    shown = Table(box=box.ASCII, expand=False)
    shown.add_column("check", no_wrap=True)
    shown.add_column("", no_wrap=True)
    shown.add_column("finding", overflow="fold")
    shown.add_column("what to do", overflow="fold")
    for check in checks:
        if not check.findings:
            shown.add_row(check.name, check.state, check.found, "")
        for number, finding in enumerate(check.findings):
            first = check.name if number == 0 else ""
            text = f"{finding.field} = {finding.value!r}: {finding.rule}"
            shown.add_row(first, finding.severity, text, finding.suggestion)
    console = Console(file=io.StringIO(), width=_WIDTH, highlight=False, markup=False)
    console.print(shown)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()
