from __future__ import annotations

import json
import math
import tarfile
from pathlib import Path

import pytest
from wideloop.manifests import profiles
from wideloop.operators.standalone.report.balancedness import balancedness
from wideloop.operators.standalone.report.markdown import interval, markdown, number
from wideloop.operators.standalone.report.models import memory_errors, performance_errors
from wideloop.operators.standalone.report.rows import Row, rows
from wideloop.operators.steps.run import Run
from wideloop.results.statistics import mean_and_interval

DOCS = Path(__file__).parents[4] / "docs" / "gpu"


@pytest.mark.parametrize("cycle", ["tuned", "graphs"])
def test_the_kept_reports_are_what_their_data_makes(cycle: str):
    report = json.loads((DOCS / cycle / "report.json").read_text())
    for configuration in report["configurations"]:
        for key, value in configuration.items():
            if isinstance(value, list) and len(value) == 2 and value[1] is None:
                configuration[key] = [value[0], math.inf]
    text = (DOCS / cycle / "report.md").read_text()
    assert markdown(report) == text
    table = text.split("## Configurations, repeated in turns")[1].split("##")[0].strip()
    assert table in DOCS.with_suffix(".md").read_text()


def test_the_standard_error_of_a_throughput_is_beside_it_where_it_was_estimated():
    report = json.loads((DOCS / "tuned" / "report.json").read_text())
    assert " ± " not in markdown(report).split("## Trials")[1].split("##")[0]
    report["trials"][0] |= {"output_tok_s": 3702.4, "output_tok_s_se": 21.7}
    trials = markdown(report).split("## Trials")[1].split("##")[0]
    assert "| output tok/s ± standard error within the run |" in trials
    assert "| 3,702 ± 22 |" in trials


def test_tokens_per_joule_are_beside_the_throughput_where_gpus_were_sampled():
    report = json.loads((DOCS / "tuned" / "report.json").read_text())
    assert "tok/J" not in markdown(report)
    unknown = dict.fromkeys(("output_tok_per_joule", "gpu_power_w", "utilisation", "utilisation_sd"))
    for row in (*report["trials"], *report["configurations"]):
        row |= unknown
    report["trials"][0] |= {
        "output_tok_per_joule": 3.456, "gpu_power_w": 1071.4, "utilisation": 0.97, "utilisation_sd": 0.012
    }  # fmt: skip
    report["configurations"][0] |= {"output_tok_per_joule": (3.4, 0.1), "gpu_power_w": (1080.0, 12.0)}
    text = markdown(report)
    assert "| 3.46 | 1,071 | 97% ± 1.2% |" in text.split("## Trials")[1]
    assert "| 3.40 ± 0.10 | 1,080 ± 12 |" in text.split("## Configurations")[1]
    assert "| - | - | - |" in text.split("## Trials")[1]


@pytest.fixture
def unpacked(wideloop_home: Path) -> None:
    """What was kept of both cycles, but for logs and the client's files; the host's own paths are not here."""
    with tarfile.open(DOCS / "store.tar.xz") as store:
        wanted = [m for m in store if not any(part in m.name for part in ("/logs/", "/benchmarks/"))]
        store.extractall(wideloop_home, wanted, filter="data")


def visits(cycle: str) -> tuple[Run, list[Row]]:
    run = Run(dag_id="script", run_id={"tuned": "h200-2", "graphs": "h200-2-graphs"}[cycle])
    return run, rows(run, {})


def test_the_kept_balancedness_is_what_the_kept_recordings_say(unpacked: None):
    for cycle in ("tuned", "graphs"):
        run, found = visits(cycle)
        told = balancedness(run, found)
        assert set(told) == {row.name for row in found}
        report = json.loads((DOCS / cycle / "report.json").read_text())
        for configuration in report["configurations"]:
            mine = [r for r in found if r.purpose == "repeat" and r.trial_number == configuration["trial_number"]]
            kept = configuration["balancedness"]
            for row in mine:
                assert told[row.name].source == kept["source"]
                assert told[row.name].value == pytest.approx(kept["value"])


def test_balancedness_that_nothing_tells_of_is_left_out(unpacked: None):
    run, found = visits("graphs")
    first = next(r for r in found if r.worker.knobs.expert_placement)
    for change in ({"eplb": "online", "expert_placement": None}, {"expert_placement": "/elsewhere/another.json"}):
        knobs = first.worker.knobs.model_copy(update=change)
        other = first.model_copy(update={"worker": first.worker.model_copy(update={"knobs": knobs}), "name": "other"})
        assert "other" not in balancedness(run, [*found, other])
    assert balancedness(run, [r for r in found if r.purpose == "repeat"]) == {}, "nothing was recorded"


@pytest.mark.parametrize("cycle", ["tuned", "graphs"])
def test_the_memory_model_foresaw_every_server_on_two_h200(cycle: str):
    """None of these rows was used to fit a constant."""
    rows = memory_errors(DOCS / cycle, profiles.hardware("h200-2").model_copy())
    assert rows
    for row in rows:
        if row["free_gib"] is None:
            faces = {"capture": "capturing", "warm_up": "NCCL"}
            assert faces[row["foreseen"]] in row["outcome"]
        else:
            assert row["foreseen"] == "fits"
            assert abs(row["weights_error_gib"]) < 0.01
            assert abs(row["kv_error_gib"]) < 0.03
            assert abs(row["graphs_error_gib"]) < 0.05
            assert abs(row["free_error_gib"]) < 0.1


def test_the_performance_model_is_near_where_every_step_is_a_graph():
    rows = performance_errors(DOCS / "graphs", profiles.hardware("h200-2"))
    assert len(rows) == 9
    assert sum(abs(r["error"]) for r in rows) / len(rows) < 0.10


def test_an_interval_needs_two_values():
    assert mean_and_interval([]) is None
    assert mean_and_interval([3.0]) == (3.0, math.inf)
    mean, half = mean_and_interval([1.0, 3.0])  # type: ignore[misc]
    assert mean == 2.0 and half == pytest.approx(12.706, abs=0.001)


@pytest.mark.parametrize(
    ("pair", "text"), [(None, "-"), ((5.0, math.inf), "5"), ((1234.4, 5.6), "1,234 ± 6"), ((math.inf, 1), "- ± 1")]
)
def test_what_is_not_known_is_a_dash(pair: tuple[float, float] | None, text: str):
    assert interval(pair) == text
    assert number(None) == "-"
