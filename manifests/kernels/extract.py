"""Make ``tuned.csv``: the tuned Triton configurations of fused-MoE kernels that SGLang wheels contain.

python -m wideloop.manifests.kernels.extract sglang-0.5.17-*.whl sglang-0.5.21-*.whl > manifests/kernels/tuned.csv
"""

from __future__ import annotations

import csv
import re
import sys
import zipfile
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

from wideloop.manifests.kernels.files import Shape, tuned_files

COLUMNS = ("device", "dtype", "n", "versions", "experts")
_WHEEL = re.compile(r"sglang-(?P<version>[^-]+)-")


def write(wheels: Iterable[Path], out: TextIO) -> None:
    """The table of all ``wheels``: one row per shape and set of versions that have the same new experts.

    Raises:
        ValueError: a file's name is not a wheel's.
    """
    versions: dict[tuple[Shape, int], set[str]] = defaultdict(set)
    for wheel in wheels:
        name = _WHEEL.match(wheel.name)
        if name is None:
            raise ValueError(f"{wheel.name} is not an SGLang wheel: sglang-<version>-....whl")
        with zipfile.ZipFile(wheel) as archive:
            for shape, experts in tuned_files(archive.namelist()):
                versions[shape, experts].add(name["version"])
    rows: dict[tuple[Shape, str], set[int]] = defaultdict(set)
    for (shape, experts), having in versions.items():
        rows[shape, " ".join(sorted(having, key=_number))].add(experts)
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for (shape, having_text), counts in sorted(rows.items()):
        writer.writerow((*shape, having_text, " ".join(map(str, sorted(counts)))))


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


if __name__ == "__main__":
    write(map(Path, sys.argv[1:]), sys.stdout)
