"""The command ``wideloop``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from wideloop import __version__
from wideloop.operators.commands.cluster import preflight, rbac
from wideloop.operators.commands.cycle import cycle
from wideloop.operators.commands.demo.airflow_home import AirflowHome
from wideloop.operators.commands.demo.run import Demo
from wideloop.operators.commands.doctor import doctor
from wideloop.operators.commands.export import export
from wideloop.operators.commands.placement import placement
from wideloop.operators.commands.render import render
from wideloop.operators.commands.terminal import exit_on_error
from wideloop.operators.settings import settings

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


for command in (doctor, rbac, preflight, render, export, cycle):
    app.command()(command)
app.add_typer(placement, name="placement")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"wideloop {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and end.")
    ] = False,
) -> None:
    """Deploy-tune-benchmark cycles for Wide-Expert-Parallel MoE serving, on Apache Airflow."""


@app.command()
def demo(
    exit_: Annotated[bool, typer.Option("--exit", help="End with the cycle, with its exit status.")] = False,
    trials: Annotated[int | None, typer.Option(min=1, help="Trials of the sweep.")] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of Airflow's pages and API.")] = 8080,
    host: Annotated[str, typer.Option(help="Address to bind; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    home: Annotated[Path | None, typer.Option(help="Folder for environments, data and results.")] = None,
) -> None:
    """Start a local Airflow, run a whole cycle in it on the simulated engine, and serve its results page."""
    if home is not None:
        os.environ["WIDELOOP_HOME"] = str(home.resolve())
        settings.cache_clear()
    project = settings()
    project.home.mkdir(parents=True, exist_ok=True)
    conf: dict[str, object] = {} if trials is None else {"trials": trials}
    with exit_on_error():
        try:
            status = Demo(AirflowHome(project.home, port, host), project, Console(markup=False)).run(
                conf, serve=not exit_
            )
        except KeyboardInterrupt as interrupt:
            raise typer.Exit(130) from interrupt
    raise typer.Exit(status)
