"""Tuned kernel configurations: the table against what SGLang 0.5.17 logged on H200s, and its own extraction."""

import csv
import io
import zipfile

import pytest
from wideloop.manifests import profiles
from wideloop.manifests.kernels import kernel_config, versions
from wideloop.manifests.kernels.extract import write

from tests.unit.tuning.test_memory import MOE8, Q24

H200 = profiles.hardware("h200-8").gpu
R1 = profiles.model("DeepSeek-R1")


@pytest.mark.parametrize(
    ("model", "redundant", "file"),
    [
        (Q24, 0, "E=64,N=768,device_name=NVIDIA_H200.json"),
        (MOE8, 8, "E=68,N=1536,device_name=NVIDIA_H200.json"),
        (MOE8, 32, "E=80,N=1536,device_name=NVIDIA_H200.json"),
        (MOE8, 64, "E=96,N=1536,device_name=NVIDIA_H200.json"),
    ],
)
def test_the_file_asked_for_is_the_one_that_sglang_names(model, redundant, file):
    """The names in the logs of two H200s at EP 2, whose copies had been put in the way; the wheel has none of them."""
    config = kernel_config(model, 2, redundant, H200, "0.5.17")
    assert (config.state, config.file) == ("default", file)


def test_a_shipped_file_is_found_and_its_neighbour_is_not():
    tuned = kernel_config(profiles.model("Qwen3-30B-A3B"), 1, 0, H200, "0.5.21")
    assert (tuned.state, tuned.local_experts, tuned.file) == ("tuned", 128, "E=128,N=768,device_name=NVIDIA_H200.json")
    more = kernel_config(profiles.model("Qwen3-30B-A3B"), 1, 4, H200, "0.5.21")
    assert (more.state, more.nearest[0]) == ("default", 128)


def test_tensor_parallel_experts_have_a_narrower_file():
    config = kernel_config(R1, 1, 0, H200, "0.5.21", tp=8)
    assert config.file == "E=256,N=256,device_name=NVIDIA_H200,dtype=fp8_w8a8,block_shape=[128, 128].json"
    assert config.state == "tuned"


def test_other_runners_need_no_file():
    assert kernel_config(R1, 32, 32, H200, "0.5.21", all_to_all=True).runner == "deep_gemm"
    b200 = profiles.hardware("gke-b200-32").gpu
    assert kernel_config(R1, 8, 0, b200, "0.5.21").runner == "flashinfer_trtllm"
    assert kernel_config(R1, 8, 0, b200, "0.5.21", runner="triton").state == "default"


def test_the_users_own_files_replace_the_engines():
    own = ["E=68,N=1536,device_name=NVIDIA_H200.json"]
    assert kernel_config(MOE8, 2, 8, H200, "0.5.17", own=own).state == "tuned"
    assert kernel_config(MOE8, 2, 0, H200, "0.5.17", own=own).nearest == (68,)


def test_a_file_is_known_from_the_version_on_that_brought_it():
    """E=512, N=320 for bf16 on the H200 came after 0.5.17."""
    wide = MOE8.model_copy(update={"num_experts": 512, "moe_intermediate_size": 320})
    assert [kernel_config(wide, 1, 0, H200, v).state for v in ("0.5.17", "0.5.21")] == ["default", "tuned"]


@pytest.mark.parametrize(
    ("asked", "table"), [("0.5.21", "0.5.21"), ("0.5.22", "0.5.21"), ("9.0", "0.5.23"), ("0.4.0", "0.5.17")]
)
def test_an_unknown_version_is_judged_by_the_nearest_known_one(asked, table):
    assert kernel_config(MOE8, 2, 0, H200, asked).table_version == table
    assert table in versions()


def test_experts_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="131 experts"):
        kernel_config(MOE8, 2, 3, H200, "0.5.21")


def test_the_table_is_read_from_the_wheels_themselves(tmp_path):
    folder = "sglang/srt/layers/moe/moe_runner/triton_utils/configs"
    shape = "N=768,device_name=NVIDIA_H200"
    shared = f"{folder}/triton_3_2_0/E=128,{shape}.json"
    newer = [
        f"{folder}/triton_3_6_0/E=64,{shape}.json",
        f"{folder}/triton_3_6_0/E=64,{shape}_down.json",
        f"{folder}/triton_3_6_0/E=64,{shape},dtype=fp8_w8a8,block_shape=[128, 128].json",
        f"{folder}/triton_3_6_0/E=64,N=768,device_name=AMD_Instinct_MI300X.json",
    ]
    for version, files in {"0.5.1": [shared], "0.5.2": [shared, *newer]}.items():
        with zipfile.ZipFile(tmp_path / f"sglang-{version}-py3-none-any.whl", "w") as wheel:
            for file in files:
                wheel.writestr(file, "{}")
    out = io.StringIO()
    write(sorted(tmp_path.glob("*.whl")), out)
    assert list(csv.reader(out.getvalue().splitlines()))[1:] == [
        ["NVIDIA_H200", "", "768", "0.5.1 0.5.2", "128"],
        ["NVIDIA_H200", "", "768", "0.5.2", "64"],
        ["NVIDIA_H200", "fp8_w8a8/128", "768", "0.5.2", "64"],
    ]
