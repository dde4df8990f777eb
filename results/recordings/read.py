"""Reads dumped files into a recording, in memory that does not grow with the files.

Files are read twice: first for the tokens of every pass, which say how passes are divided by role and by time, then
to add them up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from wideloop.manifests.hardware import Role
from wideloop.results.recordings.dump import Dump, opened
from wideloop.results.recordings.errors import refused
from wideloop.results.recordings.plausible import check_choices, check_ranks, uneven_passes
from wideloop.results.recordings.recording import Counts, ExpertRecording
from wideloop.results.recordings.statistics_json import read_statistics
from wideloop.tuning.torch_files import Array, Unreadable

#: Windows of time that a recording is divided into, at most.
WINDOWS = 32


def read_dumps(
    paths: Path | Sequence[Path],
    role: Role = "aggregated",
    *,
    layers: int | None = None,
    experts: int | None = None,
    ranks: int | None = None,
    top_k: int | None = None,
    copies: int = 1,
    decode_at_most: int | None = None,
    windows: int = WINDOWS,
    provenance: Mapping[str, Any] | None = None,
) -> ExpertRecording:
    """Read the files that a worker's recorder dumped, in whichever mode it was, or SGLang's statistics as JSON.

    Args:
        paths: the file of ``stat`` or ``stat_approx``, those of all ranks in the other modes, or one JSON file.
        role: of the worker. An aggregated one prefills and decodes; its passes are separated where the file marks those
            that only decoded (``per_token``) or by ``decode_at_most``, and are kept as ``aggregated`` otherwise.
        layers, experts: of the model, to be sure that it is that model's recording.
        ranks: expert-parallel ranks, each of which has written a file in the modes of several files.
        top_k: experts that a token chooses in a layer; None: at least two.
        copies: how often a choice is counted over all ranks: ``ExpertRecorder.copies``.
        decode_at_most: counts of the busiest layer up to which a pass is taken to have decoded only: captured batch
            times ranks times top-k times ``copies``.
        windows: of time, at most.
        provenance: kept with the recording.

    Raises:
        Refused: a file is missing, damaged, not a dump, of another model, or of another run than the rest; or counts
            cannot be those of a router. No code in a file was executed.
    """
    files = [paths] if isinstance(paths, Path) else list(paths)
    if not files:
        raise refused(Path(), "is missing: no file was collected")
    if len(files) == 1 and files[0].suffix == ".json":
        return _read_json(files[0], role, layers, experts, provenance or {})
    with ExitStack() as stack:
        dumps = [stack.enter_context(opened(path)) for path in files]
        for path, dump in zip(files, dumps, strict=True):
            _check(path, dump, dumps, layers, experts)
        if dumps[0].kind != "stat" and ranks is not None and len(dumps) != ranks:
            raise refused(files[0], f"is one of {len(dumps)} files, and {ranks} ranks have each written one")
        try:
            check_ranks(dumps)
            recording = _read(dumps, role, copies, decode_at_most, windows, experts, provenance or {})
            check_choices(recording.total, top_k, copies)
            return recording
        except Unreadable as problem:
            raise refused(files[0], str(problem)) from problem


def _read(
    dumps: list[Dump],
    role: Role,
    copies: int,
    decode_at_most: int | None,
    windows: int,
    experts: int | None,
    provenance: Mapping[str, Any],
) -> ExpertRecording:
    # [passes of each file]: place of a pass in time, the same for all ranks.
    places = _places(dumps)
    per_layer = np.zeros((max(int(p.max()) for p in places) + 1, dumps[0].layers), dtype=np.int64)
    for dump, place in zip(dumps, places, strict=True):
        for at, block in _blocks(dump, check=True):
            np.add.at(per_layer, place[at : at + len(block)], block.sum(axis=2, dtype=np.int64))
    busy = per_layer.max(axis=1)
    if not busy.any():
        raise Unreadable("recorded no token at all")
    uneven = uneven_passes(per_layer)
    order, ordered = _in_time(busy) if dumps[0].ids is None else (np.flatnonzero(busy), True)
    counts: dict[Role, Counts] = {}
    passes: dict[Role, int] = {}
    for name, numbers in _by_role(role, order, busy, decode_at_most, _decoding(dumps, places, len(busy))).items():
        window = np.full(len(busy), -1)
        count = min(windows, len(numbers))
        for index, part in enumerate(np.array_split(numbers, count)):
            window[part] = index
        total = np.zeros((count, dumps[0].layers, dumps[0].width), dtype=np.int64)
        for dump, place in zip(dumps, places, strict=True):
            for at, block in _blocks(dump):
                _add(total, block, window[place[at : at + len(block)]])
        counts[name], passes[name] = _logical(total, dumps[0].experts_of_slots, experts), len(numbers)
    origin = {"files": len(dumps), "recorder": dumps[0].kind, "passes_in_buffer": dumps[0].passes}
    notes = {"uneven_passes": uneven} if uneven else {}
    return ExpertRecording(counts, passes, copies, ordered, {**origin, **notes, **provenance})


def _read_json(
    path: Path, role: Role, layers: int | None, experts: int | None, provenance: Mapping[str, Any]
) -> ExpertRecording:
    """Statistics that somebody may have averaged: layers of unequal totals are marked, not refused."""
    try:
        counts = read_statistics(path)
    except Unreadable as problem:
        raise refused(path, str(problem), "Use the files of a dump (.pt), or JSON with logical_count") from problem
    for name, size, expected in (("layers", counts.shape[1], layers), ("experts", counts.shape[2], experts)):
        if expected is not None and size != expected:
            raise refused(path, f"is of another model: it has {size} {name}, the model {expected}")
    notes: dict[str, Any] = {"files": 1, "recorder": "statistics"}
    try:
        uneven_passes(counts.sum(axis=2))
        check_choices(counts.sum(axis=0), None)
    except Unreadable as problem:
        notes["doubt"] = str(problem)
    return ExpertRecording({role: counts}, {role: len(counts)}, 1, False, {**notes, **provenance})


def _check(path: Path, dump: Dump, dumps: list[Dump], layers: int | None, experts: int | None) -> None:
    first = dumps[0]
    if layers is not None and dump.layers != layers:
        raise refused(path, f"is of another model: it has {dump.layers} layers, the model {layers}")
    recorded = dump.width if dump.experts_of_slots is None else int(dump.experts_of_slots.max()) + 1
    if experts is not None and recorded != experts:
        raise refused(path, f"is of another model: it has {recorded} experts, the model {experts}")
    if (dump.kind, dump.layers, dump.width) != (first.kind, first.layers, first.width):
        raise refused(path, "is of another run than the other ranks' files: kind or shape differ")
    if not np.array_equal(dump.experts_of_slots, first.experts_of_slots):  # type: ignore[arg-type]
        raise refused(path, "is of another run than the other ranks' files: experts are placed otherwise")
    if sum(other.rank == dump.rank for other in dumps) > 1:
        raise refused(path, f"is one of several files of rank {dump.rank}")


def _places(dumps: list[Dump]) -> list[Array]:
    """Where each file's passes belong in a common row of passes: by number where they have one, else by row."""
    ids = [dump.ids for dump in dumps if dump.ids is not None]
    if len(ids) != len(dumps):
        return [np.arange(dump.passes) for dump in dumps]
    every = np.unique(np.concatenate(ids))
    return [np.searchsorted(every, own) for own in ids]


def _decoding(dumps: list[Dump], places: list[Array], count: int) -> Array | None:
    """Whether each pass decoded only, on every rank; None where files do not say."""
    flags = [dump.decode for dump in dumps if dump.decode is not None]
    if len(flags) != len(dumps):
        return None
    decoding = np.ones(count, dtype=bool)
    for place, own in zip(places, flags, strict=True):
        np.logical_and.at(decoding, place, own)
    return decoding


def _by_role(
    role: Role, order: Array, busy: Array, decode_at_most: int | None, decoding: Array | None
) -> dict[Role, Array]:
    """The numbers of the passes of each role, in time."""
    if role == "aggregated":
        if decode_at_most is not None:
            decoding = busy <= decode_at_most
        if decoding is not None:
            parts: dict[Role, Array] = {"prefill": order[~decoding[order]], "decode": order[decoding[order]]}
            return {name: part for name, part in parts.items() if part.size}
    return {role: order}


def _in_time(busy: Array) -> tuple[Array, bool]:
    """Used rows of a ring buffer, the oldest first, and whether that is known.

    The recorder writes in a circle and continues after a dump where it stopped, so the oldest row follows the unused
    ones.
    """
    used = busy > 0
    starts = np.flatnonzero(used & ~np.roll(used, 1))
    # A pass without tokens on any rank leaves a gap of its own; then, and in a full buffer, the order is not known.
    if len(starts) != 1:
        return np.flatnonzero(used), False
    return np.roll(np.arange(len(busy)), -starts[0])[: int(used.sum())], True


def _blocks(dump: Dump, *, check: bool = False) -> Iterator[tuple[int, Array]]:
    """Counts, and the number of the first pass of each block."""
    at = 0
    for block in dump.counts(check=check):
        yield at, block
        at += len(block)


def _add(total: Counts, block: Array, window: Array) -> None:
    """Add each pass of ``block`` to its window; -1 is none."""
    edges = np.flatnonzero(np.diff(window, prepend=-2))
    for start, end in zip(edges, [*edges[1:], len(window)], strict=True):
        if window[start] >= 0:
            total[window[start]] += block[start:end].sum(axis=0, dtype=np.int64)


def _logical(total: Counts, experts_of_slots: Array | None, experts: int | None) -> Counts:
    """Counts by logical expert, of counts by slot [windows, layers, slots]."""
    if experts_of_slots is None:
        return total
    count = experts or int(experts_of_slots.max()) + 1
    result = np.zeros((*total.shape[:2], count), dtype=np.int64)
    for layer, of_slot in enumerate(experts_of_slots):
        for slot, expert in enumerate(of_slot):
            result[:, layer, expert] += total[:, layer, slot]
    return result
