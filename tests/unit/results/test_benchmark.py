"""Against files of aiperf 0.13.0 recorded from Dynamo mockers (two levels) and a failing server (gave up)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from wideloop.manifests.errors import ClientFailed
from wideloop.manifests.workload import Workload
from wideloop.results.benchmark import LevelResult, gates, read_levels
from wideloop.results.records import Gate, Measurement

DATA = Path(__file__).parent / "data"
TWO = Workload(isl=256, osl=16, concurrency=(4, 8), requests_per_slot=3, warmup_requests=4, seed=3)
GAVE_UP = TWO.model_copy(update={"concurrency": (8, 4)})


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DATA / "aiperf-two-levels", tmp_path / "out"))


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Apply ``change`` to every request record of the measured phases."""
    file = folder / "profile_export.jsonl"
    records = [json.loads(line) for line in file.read_text().splitlines()]
    for record in records:
        if record["metadata"]["phase_kind"] == "profiling":
            change(record)
    file.write_text("".join(json.dumps(r) + "\n" for r in records))


def failed(level: LevelResult, workload: Workload = TWO) -> set[str]:
    return {gate.name for gate in gates(level, workload) if not gate.ok}


def test_reads_every_level_without_the_warm_up(recorded: Path) -> None:
    four, eight = read_levels(recorded, TWO)
    assert (four.concurrency, four.requests, four.expected, four.errors) == (4, 12, 12, 0)
    assert (eight.concurrency, eight.requests) == (8, 24)
    assert (eight.osl_mean, eight.isl_mean, eight.exact_osl) == (16, 256, 1)
    assert failed(four) == failed(eight) == set()


def test_rates_and_latencies_agree_with_each_other(recorded: Path) -> None:
    for level in read_levels(recorded, TWO):
        # Little's law: requests in flight = rate x time in the system, up to the edges of a short plateau.
        assert level.request_s * level.request_ms_mean / 1e3 == pytest.approx(level.effective_concurrency, rel=0.05)
        assert level.ttft_ms_mean + 15 * level.tpot_ms_mean == pytest.approx(level.request_ms_mean, rel=0.01)
        assert level.output_tok_s == pytest.approx(16 * level.request_s, rel=0.15)
        assert level.ttft_ms_p50 <= level.ttft_ms_p99 <= level.request_ms_p99
        assert 0 < level.plateau_s < level.duration_s
        assert (level.ended_at - level.started_at).total_seconds() == pytest.approx(level.duration_s, abs=1e-3)


def test_latencies_are_those_of_the_load_generator(recorded: Path) -> None:
    latencies = [0.0]
    edit(recorded, lambda r: latencies.append(r["metrics"]["inter_token_latency"]["value"]))
    eight = read_levels(recorded, TWO)[1]
    assert min(latencies[1:]) <= eight.tpot_ms_mean <= max(latencies)


def test_gives_a_measurement_all_it_needs_from_the_client() -> None:
    figures = set(LevelResult.model_fields) & set(Measurement.model_fields)
    assert {name for name in Measurement.model_fields if name.endswith(("_s", "_mean", "_p50", "_p99"))} <= figures
    assert {"concurrency", "requests", "errors", "started_at", "ended_at"} <= figures


def test_a_level_that_was_given_up_is_the_last_and_says_why() -> None:
    (only,) = read_levels(DATA / "aiperf-gave-up", GAVE_UP)
    assert only.cancelled
    assert {"errors", "complete", "output_length", "plateau"} <= failed(only, GAVE_UP)
    meaning = next(g.meaning for g in gates(only, GAVE_UP) if g.name == "errors")
    assert "500 Internal Server Error" in meaning
    assert "boom" in meaning


def test_short_answers_fail_their_gate(recorded: Path) -> None:
    edit(recorded, lambda r: r["metrics"]["usage_completion_tokens"].update(value=9))
    assert all(failed(level) == {"output_length"} for level in read_levels(recorded, TWO))


def test_a_foreign_tokenizer_fails_its_gate(recorded: Path) -> None:
    edit(recorded, lambda r: r["metrics"]["usage_prompt_tokens"].update(value=180))
    assert all(failed(level) == {"input_length"} for level in read_levels(recorded, TWO))


def test_a_late_client_fails_its_gate(recorded: Path) -> None:
    def late(record: dict[str, Any]) -> None:
        record["metadata"]["credit_issued_ns"] = record["metadata"]["request_start_ns"] - 60_000_000

    edit(recorded, late)
    assert all(failed(level) == {"client_delay"} for level in read_levels(recorded, TWO))


def metric(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Set a metric of one request, the sixth of the second level; None removes it."""

    def change(record: dict[str, Any]) -> None:
        if (record["metadata"]["phase_name"], record["metadata"]["session_num"]) != ("level1", sixth(record)):
            return
        if value is None:
            record["metrics"].pop(name)
        else:
            record["metrics"][name]["value"] = value

    return change


def sixth(record: dict[str, Any]) -> int:
    return 5 if record["metadata"]["phase_name"] == "level1" else -1


def gate(level: LevelResult, name: str) -> Gate:
    return next(g for g in gates(level, TWO) if g.name == name)


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        (name, value, f"{name} is {words}")
        for name in ("time_to_first_token", "request_latency", "usage_prompt_tokens", "usage_completion_tokens")
        for value, words in (
            (None, "missing"),
            (float("nan"), "nan"),
            (float("inf"), "inf"),
            ("12", "'12'"),
            (True, "True"),
        )
    ]
    + [
        ("time_to_first_token", 0, "time_to_first_token is not above 0"),
        ("time_to_first_token", -3, "time_to_first_token is not above 0"),
        ("time_to_first_token", 10**6, "request_latency is below time_to_first_token"),
        ("usage_completion_tokens", 0, "usage_completion_tokens is below 1"),
        ("usage_prompt_tokens", -5, "usage_prompt_tokens is below 1"),
    ],
)
def test_a_metric_that_cannot_be_fails_a_gate_with_its_name_and_its_request(
    recorded: Path, name: str, value: Any, problem: str
) -> None:
    before = read_levels(recorded, TWO)
    edit(recorded, metric(name, value))
    four, eight = read_levels(recorded, TWO)
    assert four == before[0]
    assert "metric_errors" in failed(eight)
    wrong = gate(eight, "metric_errors")
    assert wrong.value == 1
    assert problem in wrong.meaning
    assert "in request session_0000" in wrong.meaning
    assert eight.ttft_ms_p99 == pytest.approx(before[1].ttft_ms_p99, rel=0.2)


def test_a_level_whose_answers_all_lack_a_metric_is_refused_by_its_name(recorded: Path) -> None:
    edit(recorded, lambda r: r["metrics"].pop("usage_completion_tokens"))
    with pytest.raises(ClientFailed, match="none of 12 requests has all its metrics: 12 x usage_completion_tokens"):
        read_levels(recorded, TWO)


def test_what_the_warm_up_lacks_does_not_matter(recorded: Path) -> None:
    before = read_levels(recorded, TWO)
    file = recorded / "profile_export.jsonl"
    records = [json.loads(line) for line in file.read_text().splitlines()]
    for record in records:
        if record["metadata"]["phase_kind"] == "warmup":
            record["metrics"] = {}
    file.write_text("".join(json.dumps(r) + "\n" for r in records))
    assert read_levels(recorded, TWO) == before


@pytest.mark.parametrize("last_ms", [0.0, 0.9])
def test_a_stream_that_was_held_back_fails_its_gate(recorded: Path, last_ms: float) -> None:
    def buffered(record: dict[str, Any]) -> None:
        metrics = record["metrics"]
        metrics["time_to_first_token"]["value"] = metrics["request_latency"]["value"] - last_ms

    edit(recorded, buffered)
    assert all("streamed" in failed(level) for level in read_levels(recorded, TWO))


def test_a_few_answers_that_came_at_once_are_left_out_of_the_time_per_token(recorded: Path) -> None:
    """SGLang's router did so with 1 to 5 % of the answers on two H200."""
    before = read_levels(recorded, TWO)
    numbers = iter(range(1000))

    def one_of_a_level_at_once(record: dict[str, Any]) -> None:
        metrics = record["metrics"]
        if next(numbers) == 6:
            metrics["time_to_first_token"]["value"] = metrics["request_latency"]["value"]

    edit(recorded, one_of_a_level_at_once)
    levels = read_levels(recorded, TWO)
    assert sum(level.unstreamed > 0 for level in levels) == 1
    assert "streamed" not in failed(LevelResult(**{**dict(levels[0]), "unstreamed": 0.05}))
    for level, same in zip(levels, before, strict=True):
        assert level.tpot_ms_p50 == pytest.approx(same.tpot_ms_p50, rel=0.1)


def test_a_stream_faster_than_the_deployment_could_be_fails_its_gate(recorded: Path) -> None:
    level = read_levels(recorded, TWO)[0]
    too_fast = read_levels(recorded, TWO, least_tpot_ms=level.tpot_ms_p50 + 0.001)[0]
    assert "streamed" in failed(too_fast)


def test_a_wall_clock_that_was_set_back_fails_its_gate(recorded: Path) -> None:
    starts: list[int] = []
    edit(recorded, lambda r: starts.append(r["metadata"]["request_start_ns"]))
    late = sorted(starts)[-6]

    def set_back(record: dict[str, Any]) -> None:
        if record["metadata"]["request_start_ns"] >= late:
            record["metadata"]["request_start_ns"] -= 100_000_000

    edit(recorded, set_back)
    eight = read_levels(recorded, TWO)[1]
    assert "metric_errors" in failed(eight)
    assert "wall clock was set back" in gate(eight, "metric_errors").meaning


def test_more_requests_in_flight_than_asked_for_fail_their_gate(recorded: Path) -> None:
    def longer(record: dict[str, Any]) -> None:
        record["metrics"]["request_latency"]["value"] *= 1.5

    edit(recorded, longer)
    assert all("in_flight" in failed(level) for level in read_levels(recorded, TWO))


def test_prompts_from_the_cache_fail_their_gate(recorded: Path) -> None:
    edit(recorded, lambda r: r["metrics"].update(usage_prompt_cache_read_tokens={"value": 64}))
    assert all(failed(level) == {"cached"} for level in read_levels(recorded, TWO))


def test_a_load_below_the_asked_one_fails(recorded: Path) -> None:
    asked = TWO.model_copy(update={"concurrency": (4, 10)})
    eight = read_levels(recorded, asked)[1]
    assert eight.concurrency == 10
    assert {"complete", "concurrency", "plateau"} <= failed(eight, asked)


def cut_short(folder: Path) -> None:
    file = folder / "profile_export.jsonl"
    file.write_text(file.read_text()[:-200])


def drop_a_line(folder: Path) -> None:
    file = folder / "profile_export.jsonl"
    file.write_text("".join(line + "\n" for line in file.read_text().splitlines()[:-1]))


def drop_a_metric(folder: Path) -> None:
    edit(folder, lambda r: r["metrics"].pop("time_to_first_token"))


def fail_everything(folder: Path) -> None:
    (folder / "phase_manifest.json").unlink()
    edit(folder, lambda r: r.update(error={"code": 404, "type": "Not Found", "message": "no such model"}))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (shutil.rmtree, "profile_export.jsonl is missing"),
        (lambda f: (f / "profile_export.jsonl").unlink(), "profile_export.jsonl is missing"),
        (lambda f: (f / "phase_manifest.json").unlink(), "did not come to its end"),
        (lambda f: (f / "phase_manifest.json").write_text("{}"), "not a manifest of aiperf 0.13"),
        (lambda f: (f / "phase_manifest.json").write_text('{"phases": ['), "not a manifest of aiperf 0.13"),
        (lambda f: (f / "phase_manifest.json").write_text('{"phases": [{"phase_name": "level0"}]}'), "phase level0"),
        (lambda f: (f / "profile_export.jsonl").write_text('{"some": "json"}\n'), "line 1"),
        (lambda f: (f / "profile_export.jsonl").write_text("[1]\n"), "line 1"),
        (cut_short, "line 40 of profile_export.jsonl is cut short"),
        (drop_a_line, "has 23 of the 24 requests of phase level1"),
        (drop_a_metric, "time_to_first_token"),
        (fail_everything, "36 x 404 Not Found: no such model"),
    ],
)
def test_files_of_no_use_are_refused_with_what_is_wrong(
    recorded: Path, damage: Callable[[Path], object], said: str
) -> None:
    damage(recorded)
    with pytest.raises(ClientFailed) as caught:
        read_levels(recorded, TWO, log=["printed by the client"])
    assert said in str(caught.value)
    assert "printed by the client" in str(caught.value)


def test_files_of_another_workload_are_refused(recorded: Path) -> None:
    with pytest.raises(ClientFailed, match="has 6"):
        read_levels(recorded, TWO.model_copy(update={"concurrency": (2, 8)}))
    with pytest.raises(ClientFailed, match="no level 2"):
        read_levels(recorded, TWO.model_copy(update={"concurrency": (4, 8, 16)}))


def test_a_level_without_any_answer_is_refused(recorded: Path) -> None:
    edit(recorded, lambda r: r.update(error={"code": None, "type": "Timeout", "message": "no answer"}))
    with pytest.raises(ClientFailed, match="none of 12 requests was answered: 12 x Timeout: no answer"):
        read_levels(recorded, TWO)


def test_the_log_is_quoted_without_its_warnings(recorded: Path) -> None:
    (recorded / "phase_manifest.json").unlink()
    (recorded / "logs").mkdir()
    (recorded / "logs" / "aiperf.log").write_text("now - x - ERROR - broken\n" + "now - x - WARNING - noise\n" * 20)
    with pytest.raises(ClientFailed) as caught:
        read_levels(recorded, TWO)
    assert "broken" in str(caught.value)
    assert "noise" not in str(caught.value)
