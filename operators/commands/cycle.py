"""``wideloop cycle``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from wideloop.operators.standalone.log import log_to_terminal


def cycle(
    request: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="JSON object of the form's parameters.")],
    run: Annotated[str, typer.Option(help="Name of the cycle; the same name continues it.")],
    budget: Annotated[float | None, typer.Option(min=0, help="Seconds this command may take.")] = None,
    report: Annotated[Path | None, typer.Option(help="Folder for report.md and report.json.")] = None,
) -> None:
    """Run a whole cycle in this process, without Airflow; status 75 when the budget ended before the cycle."""
    from wideloop.operators.standalone.cycle import run_cycle

    log_to_terminal()
    raise typer.Exit(run_cycle(request, run, budget, report))
