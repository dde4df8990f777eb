"""How every command speaks at the terminal: results on standard output, everything else on standard error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from wideloop.manifests.errors import WideloopError


def note(text: str) -> None:
    """Print to standard error, as it is: paths are not wrapped, brackets are no markup."""
    Console(stderr=True).print(text, highlight=False, soft_wrap=True, markup=False)


@contextmanager
def exit_on_error() -> Iterator[None]:
    """End the command with status 2 and the error's text when the project refuses something.

    Raises:
        typer.Exit: in place of a WideloopError.
    """
    try:
        yield
    except WideloopError as error:
        note(f"wideloop: {error}")
        raise typer.Exit(2) from error
