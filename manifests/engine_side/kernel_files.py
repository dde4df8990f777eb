"""Provide a tuned file of SGLang's fused-MoE kernel where SGLang has none: a copy of the nearest number of experts.

SGLang names these files by the number of local *physical* experts and uses untuned tiles when a file is missing,
so one more redundant expert can cost 30 % of prefill (measured, SGLang 0.5.17 on two H200: 68 instead of 64
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
    """Make ``own`` a folder for ``SGLANG_MOE_CONFIG_DIR`` that holds all files of ``stock`` and the file ``name``.

    Args:
        stock: SGLang's folder with ``configs/triton_<version>/`` in it.
        name: the file that SGLang looks for, e.g. ``E=68,N=1536,device_name=NVIDIA_H200.json``.
        triton: version of the installed triton, whose folder SGLang reads first.

    Returns:
        The file whose tiles were copied; None when the file exists already or no file is near enough.
    """
    stock_files = sorted(stock.glob("configs/triton_*/E=*.json"))
    wanted = _NAME.fullmatch(name)
    if wanted is None or any(file.name == name for file in stock_files):
        return None
    donor = _nearest(wanted, stock_files)
    if donor is None:
        return None
    for file in stock_files:
        link = own / file.relative_to(stock)
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.symlink_to(file)
    folder = own / "configs" / f"triton_{triton.replace('.', '_')}"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(donor, folder / name)
    return donor


def _nearest(wanted: re.Match[str], stock_files: list[Path]) -> Path | None:
    """The file of the same width and type whose number of experts is nearest; then this device's, then the newest."""
    family = next((s for s in _SIBLINGS if wanted["device"] in s), (wanted["device"],))
    best: tuple[tuple[int, int], Path] | None = None
    for file in stock_files:
        match = _NAME.fullmatch(file.name)
        if match is None or (match["n"], match["rest"]) != (wanted["n"], wanted["rest"]):
            continue
        if match["device"] not in family or not 0.5 <= int(match["e"]) / int(wanted["e"]) <= 2:
            continue
        rank = (abs(int(match["e"]) - int(wanted["e"])), int(match["device"] != wanted["device"]))
        # Later folders are newer versions of Triton.
        if best is None or rank <= best[0]:
            best = (rank, file)
    return best[1] if best else None
