"""SGLang's statistics as JSON, ``{"logical_count": [...]}`` by layer and expert or by step, layer and expert.

``--init-expert-location`` loads it, and recipes publish their traffic in it. Counts may be averages.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from wideloop.manifests.regular_files import read_text
from wideloop.results.recordings.recording import Counts
from wideloop.tuning.torch_files import Unreadable

_MAX_BYTES = 64 * 1024**2
#: Averages are scaled so that the smallest mean count of a layer is this large; only shares matter afterwards.
_LEAST_MEAN = 1e6


def read_statistics(path: Path) -> Counts:
    """Counts, [steps, layers, experts].

    Raises:
        Unreadable: it is no such file.
    """
    try:
        content = json.loads(read_text(path, _MAX_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise Unreadable(f"is no JSON ({type(error).__name__})") from error
    if isinstance(content, Mapping) and "physical_to_logical_map" in content:
        raise Unreadable("is a placement (physical_to_logical_map), not a recording of what experts were chosen")
    if not isinstance(content, Mapping) or "logical_count" not in content:
        raise Unreadable("is JSON without logical_count, which SGLang's statistics have")
    return _counts(content["logical_count"])


def _counts(value: Any) -> Counts:
    try:
        counts = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        counts = np.empty(0)
    if counts.ndim not in (2, 3) or not counts.size or counts.shape[-1] < 2:
        raise Unreadable("has a logical_count that is not numbers by layer and expert, or by step, layer and expert")
    if not np.isfinite(counts).all() or counts.min() < 0:
        raise Unreadable("has counts that are negative or no numbers")
    if not counts.any():
        raise Unreadable("counts no token at all")
    if (counts != np.rint(counts)).any():
        means = counts.mean(axis=-1)
        counts = counts * max(1.0, _LEAST_MEAN / float(means[means > 0].min()))
    return np.rint(counts if counts.ndim == 3 else counts[None]).astype(np.int64)
