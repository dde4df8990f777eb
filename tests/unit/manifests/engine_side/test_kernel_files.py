from __future__ import annotations

from pathlib import Path

import pytest
from wideloop.manifests.engine_side.kernel_files import provide

H200 = "device_name=NVIDIA_H200"
H100 = "device_name=NVIDIA_H100_80GB_HBM3"


@pytest.fixture
def stock(tmp_path: Path) -> Path:
    folder = tmp_path / "stock"
    for version, name in (
        ("3_5_1", f"E=64,N=1536,{H100}.json"),
        ("3_5_1", f"E=20,N=1536,{H200}.json"),
        ("3_5_1", f"E=66,N=1536,{H200},dtype=fp8_w8a8.json"),
        ("3_4_0", f"E=67,N=768,{H200}.json"),
        ("3_4_0", "E=65,N=1536,device_name=NVIDIA_B200.json"),
        ("3_4_0", f"E=64,N=1536,{H100}_down.json"),
    ):
        file = folder / "configs" / f"triton_{version}" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    return folder


def test_the_nearest_number_of_experts_of_the_same_width_type_and_architecture_lends_its_tiles(
    stock: Path, tmp_path: Path
):
    own = tmp_path / "own"
    donor = provide(stock, f"E=68,N=1536,{H200}.json", own, "3.6.0")
    assert donor is not None and donor.name == f"E=64,N=1536,{H100}.json"
    assert (own / "configs" / "triton_3_6_0" / f"E=68,N=1536,{H200}.json").read_text() == donor.name
    # What SGLang had is there as well: the folder replaces its own.
    assert {f.name for f in stock.rglob("*.json")} < {f.name for f in own.rglob("*.json")}


def test_this_device_wins_over_its_sibling_at_the_same_distance(stock: Path, tmp_path: Path):
    (stock / "configs" / "triton_3_4_0" / f"E=72,N=1536,{H200}.json").write_text("ours")
    donor = provide(stock, f"E=68,N=1536,{H200}.json", tmp_path / "own", "3.6.0")
    assert donor is not None and donor.name == f"E=72,N=1536,{H200}.json"


@pytest.mark.parametrize(
    "name",
    [
        f"E=64,N=1536,{H100}.json",
        f"E=68,N=999,{H200}.json",
        "E=68,N=1536,device_name=AMD.json",
        f"E=8,N=1536,{H200}.json",
        "nonsense",
    ],
)
def test_what_is_there_or_has_no_like_is_left_alone(stock: Path, tmp_path: Path, name: str):
    assert provide(stock, name, tmp_path / "own", "3.6.0") is None
    assert not (tmp_path / "own").exists()
