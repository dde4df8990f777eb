"""Small files that several processes write and read: each reader finds a whole one, old or new."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

_Model = TypeVar("_Model", bound=BaseModel)


def write_whole(path: Path, text: str) -> None:
    """Replace ``path`` in one step, whoever else does so at the same time."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read_as(kind: type[_Model], path: Path) -> _Model | None:
    """What ``path`` holds; None when it is not there, damaged, or another version's."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
