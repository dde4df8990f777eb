"""``python -m tests.bench``, as ``make bench`` calls it."""

import typer

from tests.bench.command import main

if __name__ == "__main__":
    typer.run(main)
