import numpy as np
import pytest
from wideloop.tuning.simulator import torch_file


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.float32])
def test_torch_reads_what_was_written(tmp_path, dtype):
    torch = pytest.importorskip("torch")
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    file = tmp_path / "x.pt"
    torch_file.save(file, {"rank": 0, "logical_count": array, "average_utilization_rate_over_window": None})
    content = torch.load(file, weights_only=True)
    assert list(content) == ["rank", "logical_count", "average_utilization_rate_over_window"]
    assert content["rank"] == 0
    assert content["average_utilization_rate_over_window"] is None
    np.testing.assert_array_equal(content["logical_count"].numpy(), array)
    assert content["logical_count"].is_contiguous()


def test_nested_values_keep_their_shape(tmp_path):
    torch = pytest.importorskip("torch")
    content = {"records": [{"id": 1, "key": "primary"}, {"id": 2, "key": None}], "none": []}
    torch_file.save(tmp_path / "x.pt", content)
    assert torch.load(tmp_path / "x.pt", weights_only=True) == content


def test_a_transposed_array_keeps_its_meaning(tmp_path):
    torch = pytest.importorskip("torch")
    array = np.arange(6, dtype=np.int32).reshape(2, 3).T
    torch_file.save(tmp_path / "x.pt", {"a": array})
    np.testing.assert_array_equal(torch.load(tmp_path / "x.pt", weights_only=True)["a"].numpy(), array)


@pytest.mark.parametrize("value", [b"bytes", True, 1.5, np.zeros(2, dtype=np.float64), {1}])
def test_other_types_are_refused(tmp_path, value):
    with pytest.raises(TypeError):
        torch_file.save(tmp_path / "x.pt", {"a": value})
