"""Recordings as compact NPZ files: counts by role, window, layer and expert, and their provenance."""

from __future__ import annotations

import json
import zipfile
import zlib
from pathlib import Path
from typing import get_args

import numpy as np
from wideloop.manifests.hardware import Role
from wideloop.manifests.regular_files import check_regular
from wideloop.results.recordings.errors import refused
from wideloop.results.recordings.recording import Counts, ExpertRecording

_FORMAT = 1
#: A header may declare any size (MemoryError, OverflowError), and JSON any depth (RecursionError).
_UNREADABLE = (
    OSError, ValueError, KeyError, TypeError, EOFError, MemoryError, OverflowError, RecursionError, AttributeError,
    NotImplementedError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
#: Unpacked. A recording of DeepSeek-R1 in 32 windows has 2 MB.
_MAX_BYTES = 64 * 1024**2


def save(recording: ExpertRecording, path: Path) -> Path:
    """Write ``recording`` to ``path``, compressed; a recording of DeepSeek-R1 has a few MB."""
    about = {
        "format": _FORMAT,
        "passes": dict(recording.passes),
        "copies": recording.copies,
        "ordered": recording.ordered,
        "provenance": dict(recording.provenance),
    }
    arrays = {role: _narrow(counts) for role, counts in recording.windows.items()}
    with path.open("wb") as file:
        np.savez_compressed(file, about=np.array(json.dumps(about)), **arrays)  # type: ignore[arg-type]
    return path


def load(path: Path) -> ExpertRecording:
    """Read what :func:`save` wrote.

    Raises:
        Refused: it is not such a file.
    """
    try:
        check_regular(path, _MAX_BYTES)
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _MAX_BYTES:
                raise ValueError("too large")
        with np.load(path, allow_pickle=False) as file:
            about = json.loads(str(file["about"]))
            windows = {role: _counts(file[role]) for role in get_args(Role) if role in file}
        if about["format"] != _FORMAT or not windows or int(about["copies"]) < 1:
            raise ValueError("another format")
        passes = {role: int(about["passes"][role]) for role in windows}
        copies, ordered = int(about["copies"]), bool(about["ordered"])
        return ExpertRecording(windows, passes, copies, ordered, about["provenance"])
    except _UNREADABLE as error:
        raise refused(path, f"is not a recording that wideloop saved ({type(error).__name__})") from error


def _counts(stored: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> Counts:
    """[windows, layers, experts] as whole numbers; ValueError where they are not counts."""
    if stored.dtype.kind not in "ui" or stored.ndim != 3 or not stored.size or stored.shape[-1] < 2:
        raise ValueError("another format")
    counts = stored.astype(np.int64)
    if counts.min() < 0:
        raise ValueError("negative counts")
    return counts


def _narrow(counts: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """The same numbers in the smallest type that holds them."""
    return counts.astype(np.min_scalar_type(int(counts.max(initial=0))))
