"""The image's folder: a ``python3`` that rehearses, and packages that only GPU hosts have."""

from __future__ import annotations

from pathlib import Path

from wideloop.operators.bootstrap import PROJECT
from wideloop.operators.settings import Settings

from tests.cluster.rehearsal.description import VARIABLE, Description
from tests.cluster.rehearsal.parsers import parser_packages

#: Imported by the smoke test, and compiled against a GPU's driver: these are empty.
_GPU_PACKAGES = ("deep_ep", "nixl")
_PYTHON = """#!/bin/sh
export PYTHONPATH={project} {variable}={description}
exec {python} -m tests.cluster.rehearsal.container "$@"
"""


def make_image(folder: Path, version: str, parser: tuple[str, int]) -> Path:
    """Make an image with that version of SGLang below ``folder``; returns the folder of its programs."""
    programs, library = folder / "bin", folder / "lib"
    programs.mkdir(parents=True)
    for name in _GPU_PACKAGES:
        (library / name).mkdir(parents=True)
        (library / name / "__init__.py").write_text('__version__ = "rehearsal"\n')
    description = folder / "image.json"
    Description(version, parser, (*parser_packages(version), str(library))).write(description)
    python = programs / "python3"
    engine = Settings().environments / "simulated" / "bin" / "python"
    python.write_text(_PYTHON.format(project=PROJECT, variable=VARIABLE, description=description, python=engine))
    python.chmod(0o755)
    return programs
