"""Files from outside, opened only where they are files: a pipe would block for ever, a device never ends."""

from __future__ import annotations

import stat
from pathlib import Path


def check_regular(path: Path, most_bytes: int) -> None:
    """Check that ``path`` is a file, or a link to one, of at most ``most_bytes``.

    Raises:
        OSError: it is not there or may not be looked at.
        ValueError: it is a pipe, a device, a folder or too large; the message ends a sentence about it.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("is no file")
    if status.st_size > most_bytes:
        raise ValueError(f"has {status.st_size} bytes, and at most {most_bytes} are read")


def read_text(path: Path, most_bytes: int) -> str:
    """The text of a small file.

    Raises:
        OSError, ValueError: as :func:`check_regular`, or it is no UTF-8.
    """
    check_regular(path, most_bytes)
    return path.read_text(encoding="utf-8")
