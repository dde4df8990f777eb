"""A tuned file of SGLang's fused-MoE kernel for a number of local experts that has none: the nearest one's copy.

SGLang names these files by the number of local *physical* experts and falls back to untuned tiles without a file,
so that one more redundant expert can cost 30 % of prefill (measured, SGLang 0.5.17 on two H200: 68 instead of 64
experts). Tiles depend on an expert's width and on rows per expert, hardly on how many experts there are
(within a factor of two: one batch is spread over all of them).
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

_NAME = re.compile(r"E=(?P<e>\d+),N=(?P<n>\d+),device_name=(?P<device>[^,]+?)(?P<rest>(?:,.*)?\.json)$")
#: Devices of one architecture, whose tiles suit each other.
_SIBLINGS = (("NVIDIA_H200", "NVIDIA_H100_80GB_HBM3", "NVIDIA_H100", "NVIDIA_H800"), ("NVIDIA_B200", "NVIDIA_GB200"))


def provide(stock: Path, name: str, own: Path, triton: str) -> Path | None:
    """Make ``own`` a folder for ``SGLANG_MOE_CONFIG_DIR`` that has all of ``stock`` and ``name`` besides.

    Args:
        stock: SGLang's folder with ``configs/triton_<version>/`` in it.
        name: the file looked for, e.g. ``E=68,N=1536,device_name=NVIDIA_H200.json``.
        triton: version of the installed triton, which SGLang looks under first.

    Returns:
        The file whose tiles were copied; None when nothing had to be done or nothing suits.
    """
    known = sorted(stock.glob("configs/triton_*/E=*.json"))
    wanted = _NAME.fullmatch(name)
    if wanted is None or any(file.name == name for file in known):
        return None
    donor = _nearest(wanted, known)
    if donor is None:
        return None
    for file in known:
        link = own / file.relative_to(stock)
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.symlink_to(file)
    folder = own / "configs" / f"triton_{triton.replace('.', '_')}"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(donor, folder / name)
    return donor


def _nearest(wanted: re.Match[str], known: list[Path]) -> Path | None:
    """Of the same width and type: the nearest number of experts, then this device's before a sibling's, then newest."""
    family = next((s for s in _SIBLINGS if wanted["device"] in s), (wanted["device"],))
    best: tuple[tuple[int, int], Path] | None = None
    for file in known:
        found = _NAME.fullmatch(file.name)
        if found is None or (found["n"], found["rest"]) != (wanted["n"], wanted["rest"]):
            continue
        if found["device"] not in family or not 0.5 <= int(found["e"]) / int(wanted["e"]) <= 2:
            continue
        rank = (abs(int(found["e"]) - int(wanted["e"])), int(found["device"] != wanted["device"]))
        # Later folders are newer versions of Triton.
        if best is None or rank <= best[0]:
            best = (rank, file)
    return best[1] if best else None
