"""``wideloop placement``: placement files of one engine as those of another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from manifests.errors import Refused, WideloopError
from manifests.findings import Finding
from tuning.placement import Placement, files, read

placement = typer.Typer(no_args_is_help=True, help="Work on files that say where experts live.")


@placement.callback()
def _group() -> None:
    """Keeps ``convert`` a command of its own: typer makes a lone one the whole group."""


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
    try:
        without = _numbers(dense)
        text = _written(_read(file, ep, experts, from_, layers, without), to, without)
        if out is None:
            typer.echo(text.rstrip("\n"))
        else:
            _keep(out, text)
    except WideloopError as error:
        Console(stderr=True).print(f"wideloop: {error}", highlight=False, soft_wrap=True, markup=False)
        raise typer.Exit(2) from error


def _numbers(text: str) -> list[int]:
    try:
        return sorted({int(part) for part in text.split(",") if part.strip()})
    except ValueError:
        raise _refused("dense", text, "must be layer numbers with commas between them", "Use e.g. 0,1,2") from None


def _read(file: Path, ep: int, experts: int, form: files.Form, layers: int | None, dense: list[int]) -> Placement:
    found = read(file, ep, experts, form, layers, dense)
    if beyond := [layer for layer in dense if not 0 <= layer < found.layers]:
        rule = f"the placement has layers 0 to {found.layers - 1}"
        raise _refused("dense", beyond[0], rule, "Name layers of the model, the first of which is 0")
    return found


def _written(found: Placement, form: files.Form, dense: list[int]) -> str:
    if form == "sglang":
        return files.to_sglang(found)
    return files.to_vllm(found, dense) if form == "vllm" else files.to_tensorrt_llm(found, dense)


def _keep(out: Path, text: str) -> None:
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        rule = f"cannot be written ({error.strerror})"
        raise _refused("out", str(out), rule, "Name a file in a folder that is there") from error


def _refused(field: str, value: object, rule: str, suggestion: str) -> Refused:
    return Refused([Finding(field=field, value=value, rule=rule, suggestion=suggestion)])
