"""Recordings as compact NPZ files: counts by role, window, layer and expert, and their provenance."""

from __future__ import annotations

import json
import zipfile
import zlib
from pathlib import Path
from typing import get_args

import numpy as np
from wideloop.manifests.hardware import Role
from wideloop.results.recordings.errors import refused
from wideloop.results.recordings.recording import ExpertRecording

_FORMAT = 1
_MAX_BYTES = 1024**3


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
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _MAX_BYTES:
                raise ValueError("too large")
        with np.load(path, allow_pickle=False) as file:
            about = json.loads(str(file["about"]))
            windows = {role: file[role].astype(np.int64) for role in get_args(Role) if role in file}
        if about["format"] != _FORMAT or not windows or any(w.ndim != 3 for w in windows.values()):
            raise ValueError("another format")
        passes = {role: int(about["passes"][role]) for role in windows}
        copies, ordered = int(about["copies"]), bool(about["ordered"])
        return ExpertRecording(windows, passes, copies, ordered, about["provenance"])
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise refused(path, f"is not a recording that wideloop saved ({type(error).__name__})") from error


def _narrow(counts: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """The same numbers in the smallest type that holds them."""
    return counts.astype(np.min_scalar_type(int(counts.max(initial=0))))
