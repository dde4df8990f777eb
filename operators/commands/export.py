"""``wideloop export``: the results of a cycle, or of all, as files for notebooks and other tools."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated

import typer
from wideloop.manifests.errors import Refused
from wideloop.manifests.findings import Finding
from wideloop.operators.commands.terminal import exit_on_error, note
from wideloop.operators.settings import settings
from wideloop.results import frames
from wideloop.results.store import Store


def export(
    cycle: Annotated[str | None, typer.Argument(help="The cycle's name, as its page shows it.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Export all cycles.")] = False,
    form: Annotated[frames.Format, typer.Option("--format", help="Format of the files.")] = "csv",
    out: Annotated[Path, typer.Option(help="Folder to write to; it is made when missing.")] = Path(),
) -> None:
    """Write trials and measurements as CSV or Parquet; every row has the column "simulated"."""
    with exit_on_error(), Store.open(settings().results_url) as store:
        _check(store, cycle, every)
        files = _write(store, cycle, form, out)
    for file, rows, simulated in files:
        label = f", {simulated} of them SIMULATED (column simulated)" if simulated else ""
        note(f"{file}: {rows} rows{label}")


def _check(store: Store, cycle: str | None, every: bool) -> None:
    """Refuse anything but one cycle of the store, or all of them."""
    if (cycle is None) != every:
        raise _refused("cycle", cycle or "", "must be one cycle, or --all", "Give the cycle's name or --all")
    if cycle is not None and store.cycle(cycle) is None:
        raise _refused("cycle", cycle, "is not in the results store", _cycles_there(store, cycle))


def _cycles_there(store: Store, cycle: str) -> str:
    names = [c.cycle_id for c in store.cycles(limit=None)]
    if not names:
        return "It has no cycle yet: run wideep_cycle, or set WIDELOOP_RESULTS_URL to the store that has the cycle"
    nearest = difflib.get_close_matches(cycle, names, n=1, cutoff=0.4)
    return (f"Did you mean {nearest[0]!r}? " if nearest else "") + f"The newest are: {', '.join(names[:5])}"


def _write(store: Store, cycle: str | None, form: frames.Format, out: Path) -> list[tuple[Path, int, int]]:
    """Write both frames; returns each file with its number of rows and how many of them are simulated."""
    written = []
    for name, read in (("trials", frames.trials), ("measurements", frames.measurements)):
        frame = read(store, cycle)
        file = out / f"{name}.{form}"
        try:
            out.mkdir(parents=True, exist_ok=True)
            frames.write(frame, file, form)
        except OSError as error:
            rule = f"cannot be written ({error.strerror or error})"
            raise _refused("out", str(out), rule, "Name a folder that you may write to") from error
        written.append((file, len(frame), int(frame["simulated"].sum())))
    return written


def _refused(field: str, value: object, rule: str, suggestion: str) -> Refused:
    return Refused([Finding(field=field, value=value, rule=rule, suggestion=suggestion)])
