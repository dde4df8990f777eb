"""``make bench``: run groups of measurements, show them, and rewrite their sections of the document."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from wideloop.manifests.errors import WideloopError
from wideloop.operators.bootstrap import PROJECT
from wideloop.operators.settings import settings

from tests.bench import ask, client, cluster, demo, experts, machine, parse, placement, power, preflight, sweep, table
from tests.bench.figure import Figure
from tests.bench.workspace import BenchError, Workspace

#: In the order they run: the short ones first, so that a mistake shows before the long one.
GROUPS: dict[str, Callable[[Workspace], list[Figure]]] = {
    "placement": placement.measure,
    "experts": experts.measure,
    "power": power.measure,
    "parse": parse.measure,
    "ask": ask.measure,
    "sweep": sweep.measure,
    "client": client.measure,
    "preflight": preflight.measure,
    "cluster": cluster.measure,
    "demo": demo.measure,
}
DOCUMENT = PROJECT / "docs" / "bench.md"


def main(
    only: Annotated[str, typer.Option(help=f"Groups to measure, of {', '.join(GROUPS)}.")] = ",".join(GROUPS),
    fresh: Annotated[bool, typer.Option("--fresh", help="Also build the environments from nothing.")] = False,
    trials: Annotated[int | None, typer.Option(min=2, help="Trials of the demo's sweep, if not its own.")] = None,
    sglang_wheel: Annotated[
        Path | None,
        typer.Option(
            help="Wheel of SGLang to compare placements with (pip download --no-deps sglang), if not the tests' SGLang."
        ),
    ] = None,
    output: Annotated[Path, typer.Option(help="Document to write the tables to.")] = DOCUMENT,
) -> None:
    """Measure speed and size, and write the tables. Needs the machine for itself for about ten minutes."""
    names = only.replace(" ", "").split(",")
    if unknown := [name for name in names if name not in GROUPS]:
        raise typer.BadParameter(f"{unknown[0]!r} is none of {', '.join(GROUPS)}", param_hint="--only")
    # `kill` ends a measurement as Ctrl-C does: with nothing left running.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console(highlight=False, soft_wrap=True)
    for name in names:
        try:
            _measure(name, fresh, trials, sglang_wheel, output, console)
        except WideloopError as error:
            Console(stderr=True).print(
                f"wideloop bench: {name}: {error}", highlight=False, soft_wrap=True, markup=False
            )
            raise typer.Exit(2) from error
        except KeyboardInterrupt as interrupt:
            raise typer.Exit(130) from interrupt


def _measure(
    name: str, fresh: bool, trials: int | None, sglang_wheel: Path | None, output: Path, console: Console
) -> None:
    """Measure one group and write it down at once; the working folder is kept when it failed."""
    home = settings().home
    if not (home / "venvs" / "airflow").exists():
        raise BenchError(f"no environments below {home}: run make bench, which makes them first")
    busy = machine.busy_percent()
    if busy > machine.QUIET_PERCENT:
        console.print(
            f"wideloop bench: others use {busy:.0f} % of this machine: times will be too long", style="yellow"
        )
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=home))
    workspace = Workspace(
        folder, settings(), trials, fresh, lambda text: console.print(f"wideloop bench: {text}"), sglang_wheel
    )
    try:
        figures = GROUPS[name](workspace)
    except Exception:
        console.print(f"wideloop bench: kept for you to look at: {folder}")
        raise
    except KeyboardInterrupt:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)
    if not figures:
        return
    heading = f"{machine.description()}; others used {busy:.0f} % of the cores before it began."
    text = table.section(name, heading, figures)
    before = output.read_text() if output.exists() else ""
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(table.replaced(before, name, text))
    console.print(text, markup=False)
