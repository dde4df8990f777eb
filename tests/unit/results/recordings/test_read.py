"""Files of SGLang's own recorder classes (``data/make.py``) are read back exactly, in every mode."""

import sys
from pathlib import Path

import numpy as np
import pytest
from wideloop.manifests.errors import Refused
from wideloop.results import recordings

DATA = Path(__file__).parent / "data"
sys.path.insert(0, str(DATA))
import make  # noqa: E402  what was recorded; needs SGLang only to dump it


def files(case):
    return sorted(DATA.glob(f"{case}_[0-9].pt"))


def counted(case, passes):
    """What the recorder had to count in those passes, [layers, experts]: as the engine's ranks dispatched it."""
    ranks = range(make.EP) if "a2a" in make.CASES[case] else (0,) * make.EP
    table = make.physical_to_logical()
    counts = np.zeros((make.LAYERS, make.EXPERTS), dtype=np.int64)
    for number in passes:
        for layer in range(1, make.LAYERS):
            for rank in ranks:
                np.add.at(counts[layer], table[layer][make.chosen(number, layer, rank)].ravel(), 1)
    return counts


@pytest.mark.parametrize("case", sorted(make.CASES))
def test_every_mode_is_read_back_exactly(case):
    # Without an all-to-all back end both ranks count every token; a wrapped buffer keeps the last four passes.
    passes = range(2, 6) if case == "stat_wrapped" else range(6)
    found = recordings.read_dumps(files(case), layers=make.LAYERS, experts=make.EXPERTS, ranks=2, copies=2)
    expected = counted(case, passes)
    assert np.array_equal(found.total, expected)
    assert found.dense == (0,)
    assert found.tokens(make.TOP_K) == sum(make.TOKENS[number] for number in passes)


@pytest.mark.parametrize("case", ["stat", "stat_all", "stat_low_latency", "per_pass"])
def test_windows_follow_time(case):
    (windows,) = recordings.read_dumps(files(case), windows=6).windows.values()
    assert np.array_equal(windows, [counted(case, [number]) for number in range(6)])
    (windows,) = recordings.read_dumps(files(case), windows=2).windows.values()
    assert np.array_equal(windows, [counted(case, range(3)), counted(case, range(3, 6))])


def test_a_ring_buffer_that_wrapped_does_not_tell_time():
    assert not recordings.read_dumps(files("stat_wrapped")).ordered
    assert recordings.read_dumps(files("stat")).ordered


def test_a_ring_buffer_begins_after_its_gap(tmp_path):
    torch = pytest.importorskip("torch")
    counts = torch.zeros((6, 2, 4), dtype=torch.int32)
    for step, row in enumerate([4, 5, 0]):  # A second recording goes on where the first one ended.
        counts[row] = step + 1
    torch.save({"rank": 0, "logical_count": counts}, tmp_path / "a.pt")
    found = recordings.read_dumps(tmp_path / "a.pt", windows=3)
    assert found.windows["aggregated"][:, 0, 0].tolist() == [1, 2, 3]
    assert found.ordered


def test_prefill_and_decode_are_told_apart():
    # per_token says of each pass what it was; elsewhere decode passes are those of few tokens.
    for case, threshold in (("per_token", None), ("per_pass", 2 * 8 * 4), ("stat", 2 * 8 * 4)):
        found = recordings.read_dumps(files(case), decode_at_most=threshold)
        assert np.array_equal(found.of("prefill"), counted(case, [0, 3, 5]))
        assert np.array_equal(found.of("decode"), counted(case, [1, 2, 4]))
        assert found.passes == {"prefill": 3, "decode": 3}
    assert list(recordings.read_dumps(files("stat"), "decode").windows) == ["decode"]


def test_sums_do_not_overflow_32_bits(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"rank": 0, "logical_count": torch.full((3, 1, 2), 2**30, dtype=torch.int32)}, tmp_path / "a.pt")
    assert recordings.read_dumps(tmp_path / "a.pt").total.max() == 3 * 2**30


def test_the_ranks_of_one_recording_belong_together():
    first, second = files("per_pass")
    with pytest.raises(Refused, match="one of 1 files, and 2 ranks"):
        recordings.read_dumps(first, ranks=2)
    with pytest.raises(Refused, match="several files of rank 0"):
        recordings.read_dumps([first, first])
    with pytest.raises(Refused, match="another run"):
        recordings.read_dumps([first, files("per_token")[1]])
    with pytest.raises(Refused, match="missing"):
        recordings.read_dumps([])
    assert recordings.read_dumps([second, first]).total.sum() == recordings.read_dumps([first, second]).total.sum()


@pytest.mark.parametrize("case", ["stat", "per_pass"])
def test_another_models_recording_is_refused(case):
    with pytest.raises(Refused, match="another model: it has 5 layers, the model 61"):
        recordings.read_dumps(files(case), layers=61)
    with pytest.raises(Refused, match="another model: it has 16 experts, the model 256"):
        recordings.read_dumps(files(case), experts=256)


def test_a_kept_recording_is_the_same(tmp_path):
    found = recordings.read_dumps(files("per_token"), copies=2, provenance={"model": "toy", "ranks": 2})
    kept = recordings.load(recordings.save(found, tmp_path / "a.npz"))
    assert kept.windows.keys() == found.windows.keys()
    assert all(np.array_equal(kept.windows[role], found.windows[role]) for role in found.windows)
    assert (kept.passes, kept.copies, kept.ordered) == (found.passes, 2, True)
    assert kept.provenance == {"files": 2, "recorder": "per_token", "passes_in_buffer": 6, "model": "toy", "ranks": 2}


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06" + bytes(18), b"{}"])
def test_what_is_no_kept_recording_is_refused(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(Refused, match="not a recording that wideloop saved"):
        recordings.load(tmp_path / "a.npz")


def test_workers_of_a_role_add_up():
    found = recordings.read_dumps(files("stat"), "decode", copies=2)
    both = recordings.merged([found, recordings.read_dumps(files("stat_wrapped"), "decode", copies=2)])
    assert np.array_equal(both.total, counted("stat", range(6)) + counted("stat", range(2, 6)))
    assert both.windows["decode"].shape[0] == 4
    assert both.passes == {"decode": 10}
    with pytest.raises(ValueError, match="not of the same model"):
        recordings.merged([found, recordings.read_dumps(files("stat"), "decode")])
