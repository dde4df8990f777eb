"""``wideloop doctor``: what this installation lacks for a first run."""

from __future__ import annotations

import typer
from wideloop.operators.steps.doctor import checks
from wideloop.operators.targets.kubernetes.preflight.check_result import table


def doctor() -> None:
    """Look at databases, artefact store, connections, cluster account and Airflow; print what is wrong and what to do.

    Ends with status 1 when something would stop a run. It writes one small file to the artefact store, and brings the
    results database to the newest schema.
    """
    results = list(checks())
    typer.echo(table(results), nl=False)
    raise typer.Exit(any(result.state == "error" for result in results))
