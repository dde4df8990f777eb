"""The last log lines of publicly reported failures, shortened: which cause each has, and of what kind."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from wideloop.manifests.failures import diagnose

FACES = yaml.safe_load(Path("tests/data/failures/faces.yaml").read_text())


@pytest.mark.parametrize("face", [pytest.param(face, id=face["name"]) for face in FACES])
def test_a_reported_failure_has_its_kind_and_something_to_do(face: dict[str, Any]) -> None:
    diagnosis = diagnose("decode-0", face["lines"], face["status"])
    assert (diagnosis.kind, face["action"] in diagnosis.action) == (face["kind"], True), str(diagnosis)


@pytest.mark.parametrize(
    "line",
    [
        "Exception: Capture cuda graph failed: Failed: Assertion error /w/DeepEP/csrc/deep_ep.cpp:1105 'x.size(0) == "
        "topk_idx.size(0) and x.size(0) <= num_max_dispatch_tokens_per_rank'",
        "AssertionError: num_tokens <= num_max_dispatch_tokens_per_rank",
        "ValueError: Weight input_size_per_partition = 48 is not divisible by weight quantization block_k = 128.",
    ],
)
def test_a_limit_of_the_engine_makes_a_configuration_infeasible_and_is_no_lack_of_memory(line: str) -> None:
    diagnosis = diagnose(
        "decode-0", [line, "Possible solutions:", "1. set --mem-fraction-static to a smaller value"], 1
    )
    assert diagnosis.kind == "bad_configuration"
    assert diagnosis.lies_in_configuration and diagnosis.deficit_gib is None


@pytest.mark.parametrize(
    ("line", "gib"),
    [
        ("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 79 GiB of which 512.00 MiB is free.", 1.5),
        ("CUDA out of memory. Tried to allocate 1.25 GiB (GPU 0; 79.15 GiB total capacity; 256.00 MiB free)", 1.0),
        ("Call to CUDA function failed. Last error: Failed to CUDA calloc 536870912 bytes", 0.5),
        ("(16.00 GiB KV cache is needed, which is larger than the available KV cache memory (9.50 GiB).", 6.5),
        ("CUDA error: out of memory", None),
    ],
)
def test_the_missing_memory_is_what_the_log_says(line: str, gib: float | None) -> None:
    diagnosis = diagnose("decode-0", [f"RuntimeError: {line}"], 1)
    assert diagnosis.kind == "out_of_memory"
    assert diagnosis.deficit_gib == (pytest.approx(gib) if gib else None)


def test_the_rank_that_missed_most_counts() -> None:
    sizes = ("768.00 MiB", "1.00 GiB", "600.00 MiB")
    lines = [f"torch.OutOfMemoryError: Tried to allocate {need}. GPU 0 has 512.00 MiB free." for need in sizes]
    assert diagnose("decode-0", lines, 1).deficit_gib == pytest.approx(0.5)
