"""How a recording is refused: with the file's name, what is wrong with it, and what to do."""

from __future__ import annotations

from pathlib import Path

from wideloop.manifests.errors import Refused
from wideloop.manifests.findings import Finding

_SUGGESTION = "Record again, and collect the files of every rank after the dump has returned"


def refused(path: Path, rule: str, suggestion: str = _SUGGESTION) -> Refused:
    """The error for ``path``."""
    return Refused([Finding(field="recording", value=str(path), rule=rule, suggestion=suggestion)])
