"""Read SGLang's expert-distribution dumps without trusting them.

A ``.pt`` file is a zip with a pickle in it, and a pickle can run code: only torch's restricted loader
touches it, and only after the file's size was checked.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from manifests.errors import Refused
from manifests.findings import Finding

Counts = npt.NDArray[np.int64]

#: A 1000-step dump of DeepSeek-R1 is 62 MB; more than this is no recording of ours.
MAX_BYTES = 2 * 1024**3


def read(path: Path) -> Counts:
    """Tokens routed to each expert, summed over all recorded steps: [num_layers, experts].

    Reads the ``stat`` and ``stat_approx`` modes. Rows of dense layers are zero. Without an all-to-all back end
    SGLang counts every token once per expert-parallel rank (see :func:`tokens`).

    Raises:
        Refused: no such file, not such a dump, or one that would execute code; nothing of it was executed.
    """
    _check_container(path)
    content = _load(path)
    counts = content.get("logical_count") if isinstance(content, dict) else None
    if counts is None or not hasattr(counts, "numpy"):
        raise _refused(path, "holds no logical_count: it is no dump of recorder mode 'stat'")
    steps = np.asarray(counts.numpy())
    if steps.ndim != 3 or steps.dtype.kind not in "iu" or steps.shape[2] < 2:
        raise _refused(path, f"has counts of shape {steps.shape}, not whole numbers by step, layer and expert")
    if steps.size and steps.min() < 0:
        raise _refused(path, "has negative counts: the recorder overflowed")
    total: Counts = steps.sum(axis=0, dtype=np.int64)
    if not total.any():
        raise _refused(path, "recorded no token at all")
    return total


def tokens(counts: Counts, top_k: int, copies: int = 1) -> int:
    """Tokens behind ``counts``: those of the busiest layer over ``top_k``.

    ``copies`` is the expert-parallel size without an all-to-all back end, else 1.
    """
    return round(int(counts.sum(axis=1).max()) / (top_k * copies))


def _check_container(path: Path) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise _refused(path, f"cannot be read ({type(error).__name__})") from error
    if not 0 < size <= MAX_BYTES:
        raise _refused(path, f"has {size} bytes")
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError) as error:
        raise _refused(path, "is truncated or no file of torch.save") from error
    if unpacked > MAX_BYTES:
        raise _refused(path, f"would unpack to {unpacked} bytes")


def _load(path: Path) -> Any:
    import pickle

    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refused(path, "holds more than tensors and plain values, and was not loaded") from error
    except (RuntimeError, ValueError, KeyError, EOFError, OSError, TypeError, AttributeError, IndexError) as error:
        raise _refused(path, f"is damaged ({type(error).__name__})") from error


def _refused(path: Path, rule: str) -> Refused:
    suggestion = "Record again with expert_distribution_recorder_mode 'stat'"
    return Refused([Finding(field="recording", value=str(path), rule=rule, suggestion=suggestion)])
