"""Steps read from engines' logs."""

from __future__ import annotations

from pathlib import Path

import pytest
from wideloop.tuning.calibration.steps import chunks, decode_steps, main, read_store

DOCS = Path(__file__).parents[4] / "docs" / "gpu"


def prefill(tokens: int, rate: float) -> str:
    return f"[TP0] Prefill batch, #new-seq: 5, #new-token: {tokens}, #queue-req: 0, input throughput (token/s): {rate}"


def decode(batch: int, rate: float) -> str:
    return (
        f"[TP0] Decode batch, #running-req: {batch}, cuda graph: True, gen throughput (token/s): {rate}, #queue-req: 0"
    )


LOG = [
    prefill(8192, 1.0),  # whatever was before it
    prefill(8192, 170_000.0),
    "another line",
    prefill(8192, 172_000.0),
    prefill(77, 90_000.0),  # the last chunk is not whole
    decode(384, 2_000.0),  # holds the prompts
    decode(384, 19_200.0),
    decode(300, 15_000.0),  # some requests had ended
    decode(384, 38_400.0),
    prefill(8192, 3.0),  # holds the decode steps
]


def test_a_chunk_counts_when_it_follows_a_chunk():
    assert chunks(LOG, 8192) == [170_000.0, 172_000.0]


def test_a_decode_step_counts_when_no_prompt_came_in_between():
    assert decode_steps(LOG, 384) == pytest.approx([20.0, 10.0])


@pytest.mark.parametrize("read", [lambda x: chunks(x, 8192), lambda x: decode_steps(x, 384)])
def test_an_empty_log_has_no_steps(read):
    assert read([]) == []


def test_the_kept_steps_are_what_the_kept_store_says(tmp_path):
    for cycle in ("tuned", "graphs"):
        (tmp_path / cycle).mkdir()
        for name in ("servers.csv", "loads.csv"):
            (tmp_path / cycle / name).write_bytes((DOCS / cycle / name).read_bytes())
    main(str(DOCS / "store.tar.xz"), str(tmp_path / "tuned"), str(tmp_path / "graphs"))
    for cycle in ("tuned", "graphs"):
        assert (tmp_path / cycle / "steps.csv").read_text() == (DOCS / cycle / "steps.csv").read_text()


def test_a_store_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"store\.tar\.xz"):
        read_store(tmp_path / "store.tar.xz")
