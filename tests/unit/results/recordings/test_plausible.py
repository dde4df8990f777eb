"""Recordings that cannot be of a whole worker's router are refused with the reason; those that can are read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from wideloop.manifests.errors import Refused
from wideloop.results import recordings
from wideloop.results.experts.placement_from_files import make
from wideloop.tuning.placement import read as read_placement
from wideloop.tuning.simulator import torch_file

LAYERS, EXPERTS, TOP_K, EP, PASSES, TOKENS = 5, 24, 3, 4, 12, 200


def traffic() -> Any:
    """What a router with a preference counts, [passes, layers, experts]; the first layer is dense."""
    random = np.random.default_rng(3)
    taste = np.exp(0.7 * random.standard_normal((LAYERS, EXPERTS)))
    counts = np.zeros((PASSES, LAYERS, EXPERTS), np.int64)
    for number in range(PASSES):
        for layer in range(1, LAYERS):
            order = np.argsort(random.gumbel(size=(TOKENS, EXPERTS)) + np.log(taste[layer]), axis=1)
            counts[number, layer] = np.bincount(order[:, -TOP_K:].ravel(), minlength=EXPERTS)
    return counts


def stat(folder: Path, counts: Any) -> list[Path]:
    file = folder / "stat.pt"
    content = {"rank": 0, "logical_count": counts.astype(counts.dtype), "average_utilization_rate_over_window": None}
    torch_file.save(file, content)
    return [file]


def by_rank(folder: Path, counts: Any, ranks: list[int], first_pass: dict[int, int] | None = None) -> list[Path]:
    """A file of each rank, which counts the choices of the experts that it has."""
    files = []
    for rank in ranks:
        own = np.zeros_like(counts)
        mine = slice(rank * EXPERTS // EP, (rank + 1) * EXPERTS // EP)
        own[:, :, mine] = counts[:, :, mine]
        first = (first_pass or {}).get(rank, 0)
        records = [
            {"forward_pass_id": first + i, "rank": rank, "gatherer_key": "primary", "global_physical_count": one}
            for i, one in enumerate(own.astype(np.int32))
        ]
        files.append(folder / f"expert_distribution_recorder_1.5_{rank}.pt")
        table = np.tile(np.arange(EXPERTS, dtype=np.int64), (LAYERS, 1))
        torch_file.save(files[-1], {"records": records, "last_physical_to_logical_map": table})
    return files


def test_a_whole_recording_is_read_in_both_kinds(tmp_path: Path) -> None:
    counts = traffic()
    for files in (stat(tmp_path, counts.astype(np.int32)), by_rank(tmp_path, counts, list(range(EP)))):
        recording = recordings.read_dumps(files, top_k=TOP_K)
        assert np.array_equal(recording.total, counts.sum(axis=0))
        assert not {"uneven_passes", "doubt"} & recording.provenance.keys()


def keep_rank(counts: Any, rank: int, layers: slice = slice(None)) -> Any:
    mask = np.zeros(EXPERTS, bool)
    mask[rank * EXPERTS // EP : (rank + 1) * EXPERTS // EP] = True
    counts[:, layers, ~mask] = 0
    return counts


def changed(change: Callable[[Any], None]) -> Any:
    counts = traffic()
    change(counts)
    return counts


def all_on_one(counts: Any) -> None:
    counts[:, 1:] = 0
    counts[:, 1:, 3] = TOKENS * TOP_K


def the_same_for_all(counts: Any) -> None:
    counts[:, 1:] = 0
    counts[:, 1:, :TOP_K] = TOKENS


def doubled(counts: Any) -> None:
    counts[:, 2] *= 2


def wrapped(counts: Any) -> None:
    counts[5, 4, 7] = 2**31 - 1


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        (keep_rank(traffic(), 2), "counts of some ranks are missing"),
        (keep_rank(traffic(), 1, slice(3, 4)), "in layer 3 and 7200 in a usual one"),
        (changed(doubled), "draft model"),
        (changed(wrapped), "in layer 4"),
        (changed(all_on_one), "choose it once"),
        (changed(the_same_for_all), "all chose the same 3 experts"),
    ],
    ids=["one rank", "one layer of one rank", "draft model", "wrapped count", "one expert", "padding"],
)
def test_counts_that_no_router_makes_are_refused(tmp_path: Path, counts: Any, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        recordings.read_dumps(stat(tmp_path, counts), top_k=TOP_K)


def test_a_pass_that_was_cut_is_marked(tmp_path: Path) -> None:
    counts = np.concatenate([traffic()] * 20)
    counts[-1, 2] //= 2
    assert recordings.read_dumps(stat(tmp_path, counts)).provenance["uneven_passes"] == 1


@pytest.mark.parametrize(
    ("ranks", "first_pass", "reason"),
    [
        ([0, 1, 3], {}, r"those of ranks \[2\] are missing"),
        ([1, 2, 3], {}, r"those of ranks \[0\] are missing"),
        ([0], {}, "counts of some ranks are missing"),
        ([0, 1, 2, 3], {3: 1000}, "rank 0 lacks 12 of 24"),
        ([0, 1, 2, 3], {1: 2}, "different passes"),
    ],
)
def test_files_of_some_ranks_or_of_different_dumps_are_refused(
    tmp_path: Path, ranks: list[int], first_pass: dict[int, int], reason: str
) -> None:
    with pytest.raises(Refused, match=reason):
        recordings.read_dumps(by_rank(tmp_path, traffic(), ranks, first_pass))


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("scale", [1, 0.125])
def test_statistics_in_json_are_read_as_sglang_loads_them(tmp_path: Path, axes: int, scale: float) -> None:
    counts = traffic() if axes == 3 else traffic().sum(axis=0)
    file = tmp_path / "prefill.json"
    file.write_text(json.dumps({"logical_count": (counts * scale).tolist()}))
    total = recordings.read_dumps(file, layers=LAYERS, experts=EXPERTS).total
    expected = traffic().sum(axis=0)
    assert np.allclose(
        total[1:] / total[1:].sum(axis=1, keepdims=True), expected[1:] / expected[1:].sum(axis=1, keepdims=True)
    )
    assert make([file], EP).placement.slots == EXPERTS


def test_statistics_of_two_axes_are_read_from_torch_files_too(tmp_path: Path) -> None:
    counts = traffic().sum(axis=0)
    assert np.array_equal(recordings.read_dumps(stat(tmp_path, counts)).total, counts)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "is no JSON"),
        ("[1]", "without logical_count"),
        ('{"logical_count": [[1, -2], [1, 2]]}', "negative"),
        ('{"logical_count": [[1, NaN], [1, 2]]}', "no numbers"),
        ('{"logical_count": [[0, 0], [0, 0]]}', "no token"),
        ('{"logical_count": [1, 2]}', "by layer and expert"),
        ('{"logical_count": "x"}', "by layer and expert"),
        ('{"physical_to_logical_map": [[0, 1]]}', "is a placement"),
    ],
)
def test_other_json_is_refused_with_what_it_is(tmp_path: Path, text: str, reason: str) -> None:
    file = tmp_path / "counts.json"
    file.write_text(text)
    with pytest.raises(Refused, match=reason):
        recordings.read_dumps(file)


def test_statistics_of_unequal_layers_are_doubted(tmp_path: Path) -> None:
    counts = traffic().sum(axis=0)
    counts[2] *= 2
    file = tmp_path / "prefill.json"
    file.write_text(json.dumps({"logical_count": counts.tolist()}))
    assert "in layer 2" in make([file], EP).lines[0]


def test_a_placement_is_read_from_torch_files_as_from_json(tmp_path: Path) -> None:
    table = np.random.default_rng(0).permuted(np.tile(np.arange(16, dtype=np.int64), (3, 1)), axis=1)
    torch_file.save(tmp_path / "map.pt", {"physical_to_logical_map": table})
    (tmp_path / "map.json").write_text(json.dumps({"physical_to_logical_map": table.tolist()}))
    for name in ("map.pt", "map.json"):
        assert np.array_equal(read_placement(tmp_path / name, 4, 16).physical_to_logical, table)


def test_a_recording_in_the_place_of_a_placement_is_told_with_the_command_that_makes_one(tmp_path: Path) -> None:
    (file,) = stat(tmp_path, traffic())
    with pytest.raises(Refused, match=r"is a recording .*wideloop placement make"):
        read_placement(file, EP, EXPERTS)
