"""The names of SGLang's kernel configuration files.

``E=<local experts>,N=<intermediate size per GPU>,device_name=...[,dtype=...][,block_shape=[...]].json``, in a folder
per Triton version; SGLang falls back from its own Triton version to any other, so a file's folder does not
matter here. Files for the down projection alone (``_down``) are optional to SGLang and left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_FILE = re.compile(
    r"configs/triton_[\d_]+/E=(?P<e>\d+),N=(?P<n>\d+),device_name=(?P<device>NVIDIA[^,]+?)"
    r"(?:,dtype=(?P<dtype>[^,]+))?(?:,block_shape=\[(?P<block>\d+), \d+\])?(?P<channel>,per_channel_quant=True)?\.json$"
)


class Shape(NamedTuple):
    """Device, data type and width of a tuned file, without the number of experts. ``dtype`` is empty for bf16."""

    device: str
    dtype: str
    n: int


def tuned_files(names: Iterable[str]) -> Iterator[tuple[Shape, int]]:
    """Shape and local experts of every up-projection configuration among a wheel's file ``names``."""
    for name in names:
        found = _FILE.search(name)
        if found is None or found["device"].endswith("_down"):
            continue
        dtype = (found["dtype"] or "") + (f"/{found['block']}" if found["block"] else "")
        dtype += "/channel" if found["channel"] else ""
        yield Shape(found["device"], dtype, int(found["n"])), int(found["e"])
