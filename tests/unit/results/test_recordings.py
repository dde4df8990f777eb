"""A recording comes from elsewhere: it is read with care or not at all."""

import os
import pickle
import zipfile

import numpy as np
import pytest

from manifests.errors import Refused
from results import recordings

torch = pytest.importorskip("torch")


def dump(path, counts, **more):
    content = {"rank": 0, "logical_count": counts, "average_utilization_rate_over_window": None, **more}
    torch.save(content, path)
    return path


def test_steps_are_summed_and_dense_layers_stay(tmp_path):
    counts = torch.zeros((4, 3, 8), dtype=torch.int32)
    counts[0, 1:] = 2
    counts[2, 1:] = 3
    total = recordings.read(dump(tmp_path / "a.pt", counts))
    assert total.dtype == np.int64
    assert total.tolist() == [[0] * 8, [5] * 8, [5] * 8]
    assert recordings.tokens(total, top_k=4) == 10
    assert recordings.tokens(total, top_k=4, copies=2) == 5


def test_sums_do_not_overflow_32_bits(tmp_path):
    counts = torch.full((3, 1, 2), 2**30, dtype=torch.int32)
    assert recordings.read(dump(tmp_path / "a.pt", counts)).max() == 3 * 2**30


class Hostile:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("wrap", ["torch", "plain pickle"])
def test_a_hostile_file_executes_nothing(tmp_path, wrap):
    file, marker = tmp_path / "evil.pt", tmp_path / "executed"
    if wrap == "torch":
        torch.save({"logical_count": Hostile(marker)}, file)
    else:
        file.write_bytes(pickle.dumps(Hostile(marker)))
    with pytest.raises(Refused, match="recording"):
        recordings.read(file)
    assert not marker.exists()


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path, keep):
    file = dump(tmp_path / "a.pt", torch.ones((4, 3, 8), dtype=torch.int32))
    data = file.read_bytes()
    file.write_bytes(data[: keep if isinstance(keep, int) else int(len(data) * keep)])
    with pytest.raises(Refused):
        recordings.read(file)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path):
    file = tmp_path / "bomb.pt"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("archive/data/0", "w") as entry:
        for _ in range(33):
            entry.write(bytes(2**20))
    limit = recordings.MAX_BYTES
    recordings.MAX_BYTES = 2**25
    try:
        with pytest.raises(Refused, match="unpack"):
            recordings.read(file)
    finally:
        recordings.MAX_BYTES = limit


@pytest.mark.parametrize(
    "counts",
    [
        torch.zeros((2, 3, 8), dtype=torch.int32),
        torch.full((2, 3, 8), -1, dtype=torch.int32),
        torch.ones((3, 8), dtype=torch.int32),
        torch.ones((2, 3, 8)),
        torch.ones((0, 3, 8), dtype=torch.int32),
        [1, 2, 3],
        None,
    ],
)
def test_counts_that_are_none_are_refused(tmp_path, counts):
    with pytest.raises(Refused):
        recordings.read(dump(tmp_path / "a.pt", counts))


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(Refused, match="cannot be read"):
        recordings.read(tmp_path / "none.pt")


def test_another_mode_is_refused(tmp_path):
    torch.save({"records": [], "last_physical_to_logical_map": None}, tmp_path / "a.pt")
    with pytest.raises(Refused, match="logical_count"):
        recordings.read(tmp_path / "a.pt")
