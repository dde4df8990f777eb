"""Whether the files of a model are all there and whole.

The standard library only: this file also runs as it is in a container that fills a model cache.
"""

from __future__ import annotations

import json
from pathlib import Path

INDEX = "model.safetensors.index.json"
WEIGHTS = "model.safetensors"


class Incomplete(Exception):
    """A file is missing or damaged; carries its path and the rule it breaks."""

    def __init__(self, path: Path, rule: str) -> None:
        self.path = path
        self.rule = rule
        super().__init__(f"{path} {rule}")


def check(folder: Path, *, needs_weights: bool) -> None:
    """Check every file that an engine needs.

    Raises:
        Incomplete: a file is missing, or contradicts its header or the index.
    """
    for name in ("config.json", "tokenizer.json"):
        if not (folder / name).is_file():
            raise Incomplete(folder, f"has no {name}")
    if needs_weights:
        for shard in shards(folder):
            _check_safetensors(folder / shard)


def shards(folder: Path) -> list[str]:
    """Names of the weight files, all of which exist.

    Raises:
        Incomplete: the index cannot be read, or names a file that is missing.
    """
    index = folder / INDEX
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Incomplete(index, "is no index of weight shards") from error
    else:
        names = [WEIGHTS]
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise Incomplete(folder, f"lacks {len(missing)} of {len(names)} weight shards, first {missing[0]}")
    return names


def _check_safetensors(shard: Path) -> None:
    """A shard says in its header how long it must be: 8 bytes of length, the header, the last tensor's end."""
    size = shard.stat().st_size
    with shard.open("rb") as file:
        header_size = int.from_bytes(file.read(8), "little")
        try:
            # In another kind of file these 8 bytes may be any number.
            header = json.loads(file.read(min(header_size, size)))
            end = max(t["data_offsets"][1] for name, t in header.items() if name != "__metadata__")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Incomplete(shard, "is no safetensors file, or a part of one") from error
    expected = 8 + header_size + end
    if size != expected:
        raise Incomplete(shard, f"has {size} bytes where its header says {expected}")


def measure(folder: Path) -> dict[str, int | bool]:
    """Number and bytes of a model's files, and whether weights are among them, without a downloader's own notes."""
    files = [p for p in folder.rglob("*") if p.is_file() and ".cache" not in p.relative_to(folder).parts]
    return {
        "files": len(files),
        "bytes": sum(p.stat().st_size for p in files),
        "has_weights": any(p.suffix == ".safetensors" for p in files),
    }
