"""Which line of a log decides."""

import time
from pathlib import Path

import pytest
from wideloop.manifests.failures import CAUSES, diagnose
from wideloop.manifests.failures.diagnose import cause_of
from wideloop.manifests.failures.log_text import failures

LOGS = Path("tests/data/sglang")
OOM = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79 GiB of "
OOM += "which 512.00 MiB is free."


def test_what_was_survived_half_an_hour_before_decides_nothing() -> None:
    lines = [
        "[2026-11-22 10:00:00 TP0] autotune",
        OOM,
        "[2026-11-22 10:31:00 TP0] Scheduler hit an exception: KeyError: 'r'",
    ]
    diagnosis = diagnose("d", lines, 1)
    assert (diagnosis.kind, "KeyError: 'r'" in diagnosis.message) == ("crashed", True)


def test_what_was_survived_before_the_server_was_ready_decides_nothing() -> None:
    lines = [OOM, "[TP0] The server is fired up and ready to roll!", "KeyError: 'rid-77'"]
    assert diagnose("d", lines, 1).kind == "crashed"


def test_the_error_that_was_being_handled_is_the_cause() -> None:
    chain = "During handling of the above exception, another exception occurred:"
    lines = [
        OOM,
        "",
        chain,
        "",
        "Traceback (most recent call last):",
        "AttributeError: 'NoneType' object has no attribute",
    ]
    assert diagnose("d", lines, 1).kind == "out_of_memory"
    assert diagnose("d", [line for line in lines if line != chain], 1).kind == "crashed"


def test_ranks_that_followed_do_not_hide_the_cause() -> None:
    after = [
        "[rank1]: EOFError",
        "RuntimeError: Rank 0 scheduler died during initialization (exit code: -9).",
        "SystemExit: 1",
    ]
    assert diagnose("d", [OOM, *after], 1).kind == "out_of_memory"
    assert diagnose("d", after, 1).kind == "crashed"


@pytest.mark.parametrize(("second", "kind"), [("00", "out_of_memory"), ("20", "crashed")])
def test_what_follows_a_failure_within_seconds_came_of_it(second: str, kind: str) -> None:
    first = f"[2026-11-22 10:00:00 TP0] Scheduler hit an exception: {OOM}"
    lines = [first, f"[2026-11-22 10:00:{second} TP1] Scheduler hit an exception: KeyError: 'rid-77'"]
    assert diagnose("d", lines, 1).kind == kind


def test_what_the_interpreter_ignores_at_its_end_decides_nothing() -> None:
    ending = ["Exception ignored in: <function Scheduler.__del__ at 0x7f>", "Traceback (most recent call last):"]
    ending += ['  File "x.py", line 1, in __del__', "    self.close()", "AttributeError: no attribute 'close'"]
    assert diagnose("d", [OOM, *ending], 1).kind == "out_of_memory"
    assert "KeyError: 'r'" in diagnose("d", ["KeyError: 'r'", *ending], 1).message


def test_an_engine_in_parts_that_follow_each_other_is_told_by_the_first() -> None:
    lines = [
        "(Worker_TP1 pid=9) ERROR 11-14 15:11:20 [multiproc_executor.py:671] WorkerProc hit an exception.",
        f"(Worker_TP1 pid=9) ERROR 11-14 15:11:20 [multiproc_executor.py:671] {OOM}",
        "(EngineCore_DP0 pid=8) ERROR 11-14 15:11:21 [core.py:700] RuntimeError: Worker failed with error 'CUDA out of "
        "memory.', please check the stack trace above for the root cause",
        "(APIServer pid=1) ERROR 11-14 15:11:23 [async_llm.py:525] vllm.v1.engine.exceptions.EngineDeadError: "
        "EngineCore encountered an issue. See stack trace (above) for the root cause.",
    ]
    diagnosis = diagnose("d", lines, 1)
    assert diagnosis.kind == "out_of_memory" and diagnosis.deficit_gib == pytest.approx(1.5)


def test_an_error_without_a_reason_takes_the_one_beside_it() -> None:
    launch = "torch.AcceleratorError: CUDA error: unspecified launch failure"
    assert diagnose("d", ["DeepEP combine timeout, channel: 3, RDMA: 1", launch], 1).kind == "timed_out"
    assert diagnose("d", [launch], 1).kind == "crashed"


@pytest.mark.parametrize(
    "line",
    [
        "WARNING metrics exporter: Address already in use, metrics off",
        "[2026-11-22 10:00:00] WARNING: CUDA out of memory was caught, retrying with a smaller tile",
        "autotune: tile 7 skipped, CUDA out of memory",
        "2026-11-22T10:00:00.1Z  WARN dynamo_runtime::transports: Connection reset by peer, retrying",
        "[rank0]:[W1122 01:20:47.3 ProcessGroupNCCL.cpp:1575] Warning: destroy_process_group() was not called",
        "[W socket.cpp:436] [c10d] The client socket has failed to connect to [localhost]:29500 (errno: 97)",
        "SITE/x.py:14: UserWarning: no active port, falling back to TCP",
        "h:1:2 [0] NCCL INFO misc/socket.cc:749 -> 6 (Address already in use)",
    ],
)
def test_a_harmless_line_before_another_crash_is_not_its_cause(line: str) -> None:
    diagnosis = diagnose("d", [line, "[TP0] Scheduler hit an exception: KeyError: 'another thing'"], 1)
    assert (diagnosis.kind, "another thing" in diagnosis.message) == ("crashed", True)
    assert diagnose("d", [line], 1).message.startswith("ended with status 1 and no known cause")


def test_an_unknown_exception_is_quoted_with_its_kind() -> None:
    traceback = [
        "Traceback (most recent call last):",
        '  File "x.py", line 1, in f',
        "    g()",
        "foo.BarError: no quux",
    ]
    diagnosis = diagnose("d", [*traceback, *(f"line {i}" for i in range(30))], 3)
    assert diagnosis.message == "ended with status 3: foo.BarError: no quux"
    assert "foo.BarError: no quux" in diagnosis.log_tail[0] and len(diagnosis.log_tail) <= 16


def test_an_assertion_without_a_message_is_told_by_its_code() -> None:
    lines = ['  File "x.py", line 1, in f', "    assert num_experts > 0, ", "           ^^^^^^^^", "AssertionError"]
    assert "assert num_experts > 0" in diagnose("d", lines, 1).message


def test_the_text_of_engines_is_shown_without_control_characters() -> None:
    diagnosis = diagnose("d", ["\x1b[31mfoo.BarError\x1b[0m: \x07no \x1b]0;title\x07quux", "\x1b[2Kdone"], 1)
    assert diagnosis.message.endswith("foo.BarError: no quux")
    assert diagnosis.log_tail == ("foo.BarError: no quux", "done")


def test_memory_that_others_hold_is_the_nodes_fault() -> None:
    others = f"{OOM} Process 71 has 60.00 GiB memory in use. Including non-PyTorch memory, this process has 18.00 GiB "
    assert diagnose("d", [others + "memory in use."], 1).kind == "node_lost"
    own = f"{OOM} Process 71 has 78.00 GiB memory in use. Process 72 has 512.00 MiB memory in use."
    assert diagnose("d", [own], 1).kind == "out_of_memory"


@pytest.mark.parametrize("name", ["capture", "indivisible", "load", "nccl", "no_kv", "rebalance"])
def test_no_line_of_a_log_before_its_end_has_a_cause(name: str) -> None:
    log = (LOGS / f"{name}.log").read_text(errors="replace").splitlines()
    first = next(
        (i for i, line in enumerate(log) if line.startswith("Traceback") or "Traceback (most" in line), len(log)
    )
    named = [(m.text[:80], e.message) for m in failures(log[:first]) if (e := cause_of(m)) is not None]
    assert first > 20
    assert named == []


def test_the_causes_can_be_shown() -> None:
    assert all(cause.message and cause.action[0].isupper() and len(cause.message) < 200 for cause in CAUSES)


def test_a_log_of_long_lines_is_read_within_seconds() -> None:
    began = time.process_time()
    assert diagnose("d", ["RuntimeError: " + "transfer engine KV nvshmem " * 3000] * 600, -9).kind == "crashed"
    assert time.process_time() - began < 5
