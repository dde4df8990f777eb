"""A recording comes from elsewhere: it is read with care or not at all, and never run."""

import io
import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wideloop.manifests.errors import Refused
from wideloop.results import recordings

torch = pytest.importorskip("torch")
DATA = Path(__file__).parent / "data"


def dump(path, counts=None, **more):
    counts = torch.ones((4, 3, 8), dtype=torch.int32) if counts is None else counts
    torch.save({"rank": 0, "logical_count": counts, "average_utilization_rate_over_window": None, **more}, path)
    return path


def with_pickle(path, data):
    """A good archive with another pickle in it."""
    with zipfile.ZipFile(dump(path)) as archive:
        members = {i.filename: archive.read(i) for i in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, data if name.endswith("data.pkl") else content)
    return path


class Hostile:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("wrap", ["torch", "plain pickle", "protocol 4"])
def test_a_hostile_file_executes_nothing(tmp_path, wrap):
    file, marker = tmp_path / "evil.pt", tmp_path / "executed"
    if wrap == "torch":
        torch.save({"logical_count": Hostile(marker)}, file)
    elif wrap == "protocol 4":
        with_pickle(file, pickle.dumps({"logical_count": Hostile(marker)}, protocol=4))
    else:
        file.write_bytes(pickle.dumps(Hostile(marker)))
    with pytest.raises(Refused, match="recording"):
        recordings.read_dumps(file)
    assert not marker.exists()


def test_what_would_have_run_is_named(tmp_path):
    torch.save({"logical_count": Hostile(tmp_path / "executed")}, tmp_path / "evil.pt")
    with pytest.raises(Refused, match=r"posix\.system.*not loaded"):
        recordings.read_dumps(tmp_path / "evil.pt")


def good_pickle(path):
    with zipfile.ZipFile(dump(path)) as archive:
        return archive.read(next(n for n in archive.namelist() if n.endswith("data.pkl")))


@pytest.mark.parametrize(
    ("before", "after", "rule"),
    [
        (b"K\x04K\x03K\x08\x87", b"K\x04K\x03K\xff\x87", "in a storage of 96"),  # a shape beyond its storage
        (b"K\x18K\x08K\x01\x87", b"K\x00K\x00K\xff\x87", "in a storage of 96"),  # strides beyond it
        (b"K\x04K\x03K\x08\x87", b"M\xff\xffM\xff\xffM\xff\xff\x87", "in a storage of 96"),  # few numbers, huge shape
        (b"IntStorage", b"FooStorage", r"names torch\.FooStorage"),
        (b"_rebuild_tensor_v2", b"_rebuild_parameter", "_rebuild_parameter"),
    ],
)
def test_a_tensor_that_is_not_there_is_refused(tmp_path, before, after, rule):
    good = good_pickle(tmp_path / "good.pt")
    assert before in good
    with pytest.raises(Refused, match=rule):
        recordings.read_dumps(with_pickle(tmp_path / "a.pt", good.replace(before, after)))


@pytest.mark.parametrize(
    "program",
    [
        b"",
        b".",
        b"\x80\x02.",
        b"\x80\x02}",  # no end
        b"\x80\x02X\xff\xff\xff\xff.",  # a text of 4 GiB
        b"\x80\x02}r\xff\xff\xff\xff.",  # would make C's unpickler reserve 64 GiB
        b"\x80\x02\x96" + b"\xff" * 8 + b".",  # a byte array of 2**64
        b"\x80\x02" + b"(" * 1000 + b"t" * 999 + b".",
        b"\x80\x02]q\x00h\x00a.",  # a list that holds itself
        b"\x80\x02h\x07.",
        b"\x80\x02}K\x01R.",
        b"\x80\x02K\x01(K\x01K\x02u.",
    ],
)
def test_an_odd_pickle_is_refused(tmp_path, program):
    with pytest.raises(Refused, match="recording"):
        recordings.read_dumps(with_pickle(tmp_path / "a.pt", program))


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path, keep):
    file = dump(tmp_path / "a.pt")
    size = file.stat().st_size
    os.truncate(file, int(size * keep) if isinstance(keep, float) else keep)
    with pytest.raises(Refused, match=r"bytes|truncated"):
        recordings.read_dumps(file)


def test_a_changed_count_does_not_pass(tmp_path):
    file = dump(tmp_path / "a.pt", torch.full((4, 3, 8), 0x01020304, dtype=torch.int32))
    data = file.read_bytes()
    file.write_bytes(data.replace(struct.pack("<i", 0x01020304), struct.pack("<i", 0x01020305), 1))
    with pytest.raises(Refused, match="checksum"):
        recordings.read_dumps(file)


@pytest.mark.parametrize(
    ("counts", "rule"),
    [
        (torch.zeros((4, 3, 8), dtype=torch.int32), "no token at all"),
        (torch.ones((8,), dtype=torch.int32), "shape"),
        (torch.ones((2, 4, 3, 8), dtype=torch.int32), "shape"),
        (torch.ones((4, 3, 1), dtype=torch.int32), "shape"),
        (torch.ones((0, 3, 8), dtype=torch.int32), "shape"),
        (torch.full((4, 3, 8), 0.5), "averages"),
        (torch.full((4, 3, 8), float("nan")), "no numbers"),
        (torch.ones((4, 3, 8), dtype=torch.uint8), "shape"),
        (torch.full((4, 3, 8), 2**62, dtype=torch.int64), "overflowed"),
        (torch.full((4, 3, 8), -1, dtype=torch.int32), "negative"),
        (torch.ones((8, 3, 4), dtype=torch.int32).permute(2, 1, 0), "unusual layout"),
        (torch.ones((1, 1, 1), dtype=torch.int32).expand(4, 3, 8), "storage"),
        ([1, 2, 3], "neither logical_count nor records"),
        (None, "neither"),
    ],
)
def test_counts_that_are_none_are_refused(tmp_path, counts, rule):
    torch.save({"logical_count": counts}, tmp_path / "a.pt")
    with pytest.raises(Refused, match=rule):
        recordings.read_dumps(tmp_path / "a.pt")


def record(**changes):
    made = {"forward_pass_id": 1, "rank": 0, "global_physical_count": torch.ones((2, 4), dtype=torch.int32)}
    return {**made, **changes}


@pytest.mark.parametrize(
    ("records", "table", "rule"),
    [
        ([], torch.zeros((2, 4), dtype=torch.int64), "no pass"),
        ([record()], torch.zeros((2, 5), dtype=torch.int64), "table of the slots' experts has shape"),
        ([record()], torch.full((2, 4), -1, dtype=torch.int64), "hold no expert"),
        ([record(), record(rank=1)], torch.zeros((2, 4), dtype=torch.int64), "ranks"),
        ([record(rank=None)], torch.zeros((2, 4), dtype=torch.int64), "without number or rank"),
        ([record(global_physical_count=None)], torch.zeros((2, 4), dtype=torch.int64), "without global_physical_count"),
        ([{}], torch.zeros((2, 4), dtype=torch.int64), "without global_physical_count"),
        ([record()], torch.full((2, 4), 2**40, dtype=torch.int64), "4 slots, and one of them holds expert"),
        ([record(forward_pass_id=2**100)], torch.zeros((2, 4), dtype=torch.int64), "without number or rank"),
    ],
)
def test_records_that_do_not_fit_are_refused(tmp_path, records, table, rule):
    torch.save({"records": records, "last_physical_to_logical_map": table}, tmp_path / "a.pt")
    with pytest.raises(Refused, match=rule):
        recordings.read_dumps(tmp_path / "a.pt")


def test_a_compressed_archive_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", bytes(10**6))
    with pytest.raises(Refused, match="compressed"):
        recordings.read_dumps(tmp_path / "a.pt")


def test_a_file_that_is_none_is_refused(tmp_path):
    with pytest.raises(Refused, match="cannot be read"):
        recordings.read_dumps(tmp_path / "none.pt")
    with pytest.raises(Refused, match="is no file"):
        recordings.read_dumps(tmp_path)
    np.save(tmp_path / "a.npy", np.ones(3))
    with pytest.raises(Refused, match="not a file of torch"):
        recordings.read_dumps(tmp_path / "a.npy")
    torch.save({"a": 1}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(Refused, match="not a file of torch"):
        recordings.read_dumps(tmp_path / "old.pt")


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["stat_0.pt", "per_pass_0.pt", "per_token_0.pt"]), st.data())
def test_whatever_is_changed_is_read_or_refused(tmp_path_factory, name, data):
    original = (DATA / name).read_bytes()
    changed = bytearray(original)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    file = tmp_path_factory.mktemp("changed") / "a.pt"
    file.write_bytes(changed)
    try:
        found = recordings.read_dumps(file)
    except Refused:
        return
    # What is not covered by a checksum may still be read, but only as the same counts.
    assert np.array_equal(found.total, recordings.read_dumps(io_path(file, original)).total)


def io_path(file, content):
    good = file.with_name("good.pt")
    good.write_bytes(io.BytesIO(content).getvalue())
    return good


@pytest.mark.parametrize("suffix", [".pt", ".json", ".npz"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_never_ends_or_never_begins_is_refused_at_once(tmp_path, suffix, kind):
    file = tmp_path / f"recording{suffix}"
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "device":
        file.symlink_to("/dev/zero")
    else:
        file.mkdir()
    read = recordings.load if suffix == ".npz" else recordings.read_dumps
    with pytest.raises(Refused):
        read(file)


def nested_key(levels):
    """A dict whose key is a tuple that holds itself twice, ``levels`` times over: its hash takes 2 ** levels steps."""
    doubled = b"".join(b"h" + bytes([i]) + b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) for i in range(levels))
    return b"\x80\x02}()q\x00" + doubled + b"K\x01u."


@pytest.mark.parametrize(
    "program",
    [
        nested_key(60),
        b"\x80\x02})" + b"\x85" * 1_000_000 + b"K\x01s.",
        b"\x80\x02](" + b"}" * 20_000_000 + b"e.",
    ],
    ids=["doubled", "deep", "many"],
)
def test_a_pickle_that_would_take_all_time_or_memory_is_refused(tmp_path, program):
    with pytest.raises(Refused, match="pickle"):
        recordings.read_dumps(with_pickle(tmp_path / "hostile.pt", program))


def test_a_declared_size_is_compared_with_the_file_before_memory_is_taken(tmp_path):
    file = dump(tmp_path / "huge.pt")
    with zipfile.ZipFile(file) as archive:
        program = next(archive.read(n) for n in archive.namelist() if n.endswith("data.pkl"))
    passes, items = b"K\x04K\x03K\x08\x87", b"K\x60t"
    assert passes in program and items in program
    huge = program.replace(passes, b"J" + struct.pack("<i", 2**30) + b"K\x03K\x08\x87")
    huge = huge.replace(items, b"\x8a\x06" + (2**40).to_bytes(6, "little") + b"t")
    with pytest.raises(Refused, match="longer than its file"):
        recordings.read_dumps(with_pickle(file, huge))


@pytest.mark.parametrize(
    "changes",
    [
        {"decode": np.full((1, 2, 4), -1)},
        {"decode": np.full((1, 2, 4), np.nan)},
        {"decode": np.zeros((1, 0, 4), dtype=np.int64)},
        {"decode": np.ones((2, 4), dtype=np.int64)},
        {"about": np.array("[" * 100_000)},
        {"about": np.array('{"format": 1, "passes": {"decode": 1}, "copies": 0, "ordered": true, "provenance": {}}')},
        {"about": np.array('["format"]')},
    ],
    ids=["negative", "nan", "no layer", "two axes", "deep", "no copies", "list"],
)
def test_a_compact_file_that_holds_no_counts_is_refused(tmp_path, changes):
    about = '{"format": 1, "passes": {"decode": 1}, "copies": 1, "ordered": true, "provenance": {}}'
    content = {"about": np.array(about), "decode": np.ones((1, 2, 4), dtype=np.int64)}
    np.savez(tmp_path / "good.npz", **content)
    assert recordings.load(tmp_path / "good.npz").layers == 2
    np.savez(tmp_path / "bad.npz", **{**content, **changes})
    with pytest.raises(Refused, match="not a recording"):
        recordings.load(tmp_path / "bad.npz")
