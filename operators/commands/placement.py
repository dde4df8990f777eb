"""``wideloop placement``: placements from recordings and for traffic of another day, and from one engine to another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from wideloop.manifests.errors import Refused
from wideloop.manifests.findings import Finding
from wideloop.operators.commands.terminal import exit_on_error, note
from wideloop.tuning.placement import Objective, Placement, files, read

placement = typer.Typer(no_args_is_help=True, help="Work on files that say where experts live.")


@placement.command()
def make(
    recording: Annotated[
        list[Path],
        typer.Argument(help="A recording as cycles keep it (.npz), or the files that all ranks dumped (.pt)."),
    ],
    ep: Annotated[int, typer.Option(min=1, help="Expert-parallel ranks.")],
    redundant: Annotated[int, typer.Option(min=0, help="Slots beyond one for each expert.")] = 0,
    windows: Annotated[
        int, typer.Option(min=1, help="Stretches of the recording's time, each to be balanced by itself.")
    ] = 1,
    objective: Annotated[Objective, typer.Option(help="Over windows: their mean, or the worst one.")] = "mean",
    nodes: Annotated[
        int, typer.Option(min=1, help="Nodes, if each of the model's expert groups is to stay within one.")
    ] = 1,
    groups: Annotated[int, typer.Option(min=1, help="The model's expert groups; DeepSeek-R1 has 8.")] = 1,
    current: Annotated[
        Path | None, typer.Option(help="SGLang's file of the placement that is loaded now: as little as can be moves.")
    ] = None,
    unseen: Annotated[
        list[Path] | None, typer.Option(help="A recording of another workload, which the placement is only judged on.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File to write, if not the terminal.")] = None,
) -> None:
    """Place experts by a recording, in SGLang's form; say how even that makes ranks, on this and on other traffic."""
    from wideloop.results.experts import placement_from_files as from_files

    with exit_on_error():
        held = None if current is None else current.absolute()
        made = from_files.make(
            recording, ep, redundant, windows, objective, nodes, groups, current=held, unseen=unseen or ()
        )
        note("\n".join(made.lines))
        _give(files.to_sglang(made.placement), out)


@placement.command()
def convert(
    file: Annotated[Path, typer.Argument(help="Placement file to read.")],
    ep: Annotated[int, typer.Option(min=1, help="Expert-parallel ranks it is for.")],
    experts: Annotated[int, typer.Option(min=1, help="Logical experts of a layer of the model.")],
    to: Annotated[files.Form, typer.Option(help="Engine to write it for.")],
    from_: Annotated[files.Form, typer.Option("--from", help="Engine it was written for.")] = "sglang",
    layers: Annotated[int | None, typer.Option(min=1, help="Layers of the model, if they are to be checked.")] = None,
    dense: Annotated[
        str,
        typer.Option(help="The model's layers without experts, e.g. 0,1,2: only SGLang's files have rows for them."),
    ] = "",
    out: Annotated[Path | None, typer.Option(help="File to write, if not the terminal.")] = None,
) -> None:
    """Write a placement in the form that another engine loads, after a check that it places every expert."""
    with exit_on_error():
        without = _numbers(dense)
        _give(_written(_read(file, ep, experts, from_, layers, without), to, without), out)


def _give(text: str, out: Path | None) -> None:
    if out is None:
        typer.echo(text.rstrip("\n"))
    else:
        _keep(out, text)


def _numbers(text: str) -> list[int]:
    try:
        return sorted({int(part) for part in text.split(",") if part.strip()})
    except ValueError:
        raise _refused("dense", text, "must be layer numbers with commas between them", "Use e.g. 0,1,2") from None


def _read(file: Path, ep: int, experts: int, form: files.Form, layers: int | None, dense: list[int]) -> Placement:
    table = read(file, ep, experts, form, layers, dense)
    if beyond := [layer for layer in dense if not 0 <= layer < table.layers]:
        rule = f"the placement has layers 0 to {table.layers - 1}"
        raise _refused("dense", beyond[0], rule, "Name layers of the model, the first of which is 0")
    return table


def _written(table: Placement, form: files.Form, dense: list[int]) -> str:
    if form == "sglang":
        return files.to_sglang(table)
    return files.to_vllm(table, dense) if form == "vllm" else files.to_tensorrt_llm(table, dense)


def _keep(out: Path, text: str) -> None:
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        rule = f"cannot be written ({error.strerror})"
        raise _refused("out", str(out), rule, "Name a file in a folder that is there") from error


def _refused(field: str, value: object, rule: str, suggestion: str) -> Refused:
    return Refused([Finding(field=field, value=value, rule=rule, suggestion=suggestion)])
