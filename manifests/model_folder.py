"""A model's folder: its config.json, what says how it is quantised, and how large its weights are."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

from wideloop.manifests.errors import Refused
from wideloop.manifests.findings import Finding
from wideloop.manifests.model import ModelSpec
from wideloop.manifests.model_files import INDEX, WEIGHTS
from wideloop.manifests.model_reader import read_config

CONFIG = "config.json"
QUANTISATION = "hf_quant_config.json"
#: The largest config so far, with a line per quantised matrix, has 2 MB; an index of shards up to 15 MB.
_MOST_BYTES = 64 * 2**20
#: An index that states more is wrong: the largest checkpoint so far has 3 TB.
_MOST_STORED = 10**15
_LONGEST_NAME = 200


def read_folder(path: Path, name: str | None = None) -> ModelSpec:
    """The model of ``path``: a config.json, or a folder that holds one.

    Raises:
        Refused: it cannot be read, or is no mixture of experts that is understood.
    """
    is_folder = _is(path, stat.S_ISDIR)
    file = path / CONFIG if is_folder else path
    folder = path if is_folder else path.parent if path.name == CONFIG else None
    config = _object(file)
    if config is None:
        raise Refused(
            [_unreadable(path, "has no readable config.json: it is no JSON object, or no file that can be read")]
        )
    beside, size = (_object(folder / QUANTISATION), stored_bytes(folder)) if folder else (None, None)
    return read_config(config, _name(config, name or "", file), quantisation=beside, checkpoint_bytes=size)


def stored_bytes(folder: Path) -> int | None:
    """Bytes of the folder's weights, as its index says, else as its one file has; None when it has none."""
    index = _object(folder / INDEX)
    if index is not None:
        metadata = index.get("metadata")
        total = metadata.get("total_size") if isinstance(metadata, dict) else None
        if isinstance(total, bool) or not isinstance(total, int | float) or not 0 < total < _MOST_STORED:
            return None
        return int(total)
    try:
        file = (folder / WEIGHTS).stat()
    except (OSError, ValueError):
        return None
    return file.st_size if stat.S_ISREG(file.st_mode) and file.st_size else None


def _object(file: Path) -> dict[str, Any] | None:
    """The JSON object in ``file``; None when there is none. A pipe or a device would be waited for: not opened."""
    try:
        if not _is(file, stat.S_ISREG) or file.stat().st_size > _MOST_BYTES:
            return None
        document = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _is(path: Path, kind: Any) -> bool:
    try:
        return bool(kind(path.stat().st_mode))
    except (OSError, ValueError):
        return False


def _name(config: dict[str, Any], name: str, file: Path) -> str:
    own = config.get("_name_or_path")
    chosen = name or (own if isinstance(own, str) else "") or file.resolve().parent.name
    # Half of a surrogate pair can be neither printed nor stored.
    return chosen.encode("utf-8", "replace").decode()[:_LONGEST_NAME]


def _unreadable(path: Path, rule: str) -> Finding:
    return Finding(
        field="model",
        value=str(path)[:_LONGEST_NAME],
        rule=rule,
        suggestion="Give a profile's name, a hub id, or a directory with the model's config.json",
    )
