"""The two kinds of files that SGLang's recorder dumps, told apart and checked, and their passes one after the other.

``stat`` and ``stat_approx`` write one file for all ranks (rank 0, after summing), logical experts by step of a ring
buffer. ``per_pass`` and ``per_token`` write a file on every rank, with a record per forward pass that counts the rank's
tokens by physical slot. Formats: ``srt/eplb/expert_distribution.py`` of 0.5.17 to 0.5.23.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from wideloop.results.recordings.errors import refused
from wideloop.tuning.torch_files import Archive, Array, Tensor, Unreadable, read_pickle

Kind = Literal["stat", "per_pass", "per_token"]

#: More choices of one expert in one pass than any engine makes: the count overflowed.
_MOST = 2**40
#: Types that counts are dumped in; statistics that somebody averaged are floats.
_COUNTS = ("<i2", "<i4", "<i8", "<f4", "<f8")

#: ``ForwardMode`` of a pass that only decodes (``model_executor/forward_batch_info.py``).
DECODE = 2


@dataclass(frozen=True, eq=False)
class Dump:
    """One file.

    Attributes:
        kind: ``stat`` also stands for ``stat_approx``, whose files are the same.
        passes: number of passes in the file, used or not.
        ids: number of each pass since the server's start, [passes]; None where the file has a ring buffer instead.
        decode: whether each pass only decoded, [passes]; None where the file does not say.
        experts_of_slots: logical expert of each slot, [layers, slots]; None where counts are by logical expert.
        layers: dense ones counted. width: logical experts, or slots.
    """

    kind: Kind
    rank: int
    passes: int
    layers: int
    width: int
    ids: Array | None
    decode: Array | None
    experts_of_slots: Array | None
    _archive: Archive
    _counts: tuple[Tensor, ...]

    def counts(self, *, check: bool = False) -> Iterator[Array]:
        """Counts a few passes at a time, [some passes, layers, width], in the file's order.

        Raises:
            Unreadable: a count cannot be, or, with ``check``, a checksum does not match.
        """
        for tensor in self._counts:
            if len(tensor.shape) < 3:
                yield _whole_counts(self._archive.whole(tensor))[None]
                continue
            for block in self._archive.rows(tensor, check=check):
                yield _whole_counts(block)


@contextmanager
def opened(path: Path) -> Iterator[Dump]:
    """The dump at ``path``, for as long as its counts are read.

    Raises:
        Refused: the file is missing, not such a dump, damaged, or would run code; none of its code was run.
    """
    try:
        with Archive(path) as archive:
            yield _dump(archive, read_pickle(archive.pickle()))
    except Unreadable as problem:
        raise refused(path, str(problem)) from problem


def _dump(archive: Archive, content: Any) -> Dump:
    if not isinstance(content, dict):
        raise Unreadable("is not a dump of an expert-distribution recorder")
    if isinstance(content.get("logical_count"), Tensor):
        return _stat(archive, content)
    if isinstance(content.get("records"), list) and isinstance(content.get("last_physical_to_logical_map"), Tensor):
        return _detailed(archive, content["records"], content["last_physical_to_logical_map"])
    raise Unreadable("holds neither logical_count nor records: it is not a dump of an expert-distribution recorder")


def _stat(archive: Archive, content: dict[Any, Any]) -> Dump:
    counts = content["logical_count"]
    _check(counts, len(counts.shape) if len(counts.shape) in (2, 3) else 3)
    archive.check_holds(counts)
    passes, layers, width = counts.shape if len(counts.shape) == 3 else (1, *counts.shape)
    return Dump("stat", _whole(content.get("rank", 0)), passes, layers, width, None, None, None, archive, (counts,))


def _detailed(archive: Archive, records: list[Any], table: Tensor) -> Dump:
    if not records:
        raise Unreadable("has no pass: nothing was recorded")
    if not all(isinstance(r, dict) and isinstance(r.get("global_physical_count"), Tensor) for r in records):
        raise Unreadable("has records without global_physical_count")
    counts = tuple(r["global_physical_count"] for r in records)
    shapes, ranks = {c.shape for c in counts}, {_whole(r.get("rank")) for r in records}
    if len(shapes) != 1 or len(ranks) != 1:
        raise Unreadable(f"has records of shapes {sorted(shapes)} and ranks {sorted(ranks)}, not of one")
    for tensor in counts:
        _check(tensor, 2)
        archive.check_holds(tensor)
    (shape,), (rank,) = shapes, ranks
    if table.shape != shape or table.dtype not in ("<i4", "<i8"):
        raise Unreadable(f"counts tokens of {shape} slots, but its table of the slots' experts has shape {table.shape}")
    per_token = "topk_ids_of_layer" in records[0]
    experts = archive.whole(table).astype(np.int64)
    if experts.size and experts.min() < 0:
        raise Unreadable("has slots that hold no expert")
    if experts.size and experts.max() >= shape[1]:
        raise Unreadable(f"has {shape[1]} slots, and one of them holds expert {experts.max()}")
    return Dump(
        kind="per_token" if per_token else "per_pass",
        rank=rank,
        passes=len(records),
        layers=shape[0],
        width=shape[1],
        ids=np.array([_whole(r.get("forward_pass_id")) for r in records], dtype=np.int64),
        decode=np.array([r.get("forward_mode") == DECODE for r in records]) if per_token else None,
        experts_of_slots=experts,
        _archive=archive,
        _counts=counts,
    )


def _check(counts: Tensor, axes: int) -> None:
    if len(counts.shape) != axes or counts.dtype not in _COUNTS or 0 in counts.shape or counts.shape[-1] < 2:
        raise Unreadable(f"has counts of shape {counts.shape}, not numbers by layer and expert")


def _whole_counts(counts: Array) -> Array:
    """``counts`` as whole numbers, checked.

    Raises:
        Unreadable: one is negative, larger than a pass can be, or no number.
    """
    if counts.dtype.kind == "f":
        if not np.isfinite(counts).all():
            raise Unreadable("has counts that are no numbers")
        if (counts != np.rint(counts)).any():
            raise Unreadable('has averages instead of counts, which are read as JSON: {"logical_count": [...]}')
    if counts.size and counts.min() < 0:
        raise Unreadable("has negative counts: the recorder overflowed")
    if counts.size and counts.max() > _MOST:
        raise Unreadable(f"counts {counts.max():.3g} choices of one expert in one pass: the recorder overflowed")
    return counts.astype(np.int64, copy=False)


def _whole(value: Any) -> int:
    if type(value) is not int or not -(2**62) < value < 2**62:
        raise Unreadable("has records without number or rank")
    return value
