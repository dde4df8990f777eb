"""What a person reads: progress, the recommendation, and what stands in the way."""

import io
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner
from wideloop.operators.commands.cli import app
from wideloop.operators.commands.demo import summary
from wideloop.operators.commands.demo.airflow_process import Mark, Running
from wideloop.operators.commands.demo.progress import Progress, duration
from wideloop.operators.commands.demo.snapshot import Snapshot
from wideloop.results.records import Cycle, Recommendation, Stage, Trial

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def trial(number: int, value: float | None = None, **other: Any) -> Trial:
    given = {"state": "complete" if value is not None else "running", **other}
    return Trial(
        study="s", number=number, cycle_id="c", dag_run_id="r", point={}, knobs={}, value=value, started_at=NOW, **given
    )


def cycle(planned: int) -> Cycle:
    return Cycle(
        cycle_id="c", dag_id="wideep_cycle", dag_run_id="r", title="t", state="running", engine="simulated",
        target="local", simulated=True, model="m", hardware="h", request={}, planned_trials=planned, started_at=NOW,
    )  # fmt: skip


def recommended(**changes: Any) -> Recommendation:
    values: dict[str, Any] = {
        "cycle_id": "c", "study": "s", "trial_number": 4, "verdict": "adopt", "reason": "both pairs agree",
        "knobs": {"decode": {"redundant_experts": 16, "mem_fraction_static": 0.85}},
        "default_knobs": {"decode": {"redundant_experts": 0, "mem_fraction_static": 0.85}},
        "gain": 0.123, "gain_low": -0.01, "gain_high": 0.25, "pairs": 2, "slo_met": True, "simulated": True,
        "created_at": NOW,
    }  # fmt: skip
    return Recommendation(**values | changes)


def text_of(renderable: Any) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(renderable)
    out = console.file.getvalue()  # type: ignore[attr-defined]
    return " ".join(out.split())


def test_the_best_trial_is_feasible_and_measured() -> None:
    snapshot = Snapshot(
        cycle(8),
        trials=(
            trial(0, 100.0, is_default=True),
            trial(1, 130.0),
            trial(2, 999.0, constraints={"ttft_p99_ms": 3.0}),
            trial(3, 999.0, state="failed"),
            trial(4),
        ),
    )
    assert snapshot.trials_line() == (
        "trial 5/8, best so far: trial 1 with 130.0 output tok/s per GPU (default 100.0)"
    )  # fmt: skip


def test_there_is_no_trials_line_before_the_first_trial() -> None:
    assert Snapshot(cycle(8)).trials_line() == ""


def test_a_log_gets_each_change_once() -> None:
    out = io.StringIO()
    stage = Stage(cycle_id="c", name="image", state="running", started_at=NOW)
    with Progress(Console(file=out, width=200)) as progress:
        progress.say("starting Airflow")
        for _ in range(3):
            progress.show(Snapshot(cycle(2), (stage,), (trial(0),)))
        done = stage.model_copy(update={"state": "success", "detail": "sha256:1"})
        progress.show(Snapshot(cycle(2), (done,), (trial(0, 5.0),)))
    lines = [line.split("  ", 1)[1] for line in out.getvalue().splitlines()]
    assert lines == [
        "starting Airflow",
        "image: running",
        "trial 1/2",
        "image: success (sha256:1)",
        "trial 1/2, best so far: trial 0 with 5.0 output tok/s per GPU",
    ]


@pytest.mark.parametrize("terminal", [False, True])
def test_a_stack_of_an_engine_is_shown_as_text(terminal: bool) -> None:
    detail = "[crashed] decode-0:\n    | #3 in raise () [/usr/lib/libc.so.6] [bold]x[/bold]"
    stage = Stage(cycle_id="c", name="baseline", state="failed", detail=detail, started_at=NOW, ended_at=NOW)
    out = io.StringIO()
    with Progress(Console(file=out, width=200, force_terminal=terminal)) as progress:
        progress.show(Snapshot(stages=(stage,)))
    assert "[/usr/lib/libc.so.6] [bold]x[/bold]" in out.getvalue()


def test_the_recommendation_says_what_how_much_how_sure_and_that_it_is_simulated() -> None:
    text = text_of(summary.recommendation(Snapshot(recommendation=recommended())))
    assert "Recommended: trial 4 (simulated" in text
    assert "decode redundant experts 16 (default 0)" in text
    assert "mem fraction static 0.85 │" in text
    assert "+12.3% output tok/s per GPU over the default (95% interval -1.0% to +25.0%, 2 pairs)" in text
    assert "simulated" not in text_of(summary.recommendation(Snapshot(recommendation=recommended(simulated=False))))


def test_an_unclear_outcome_is_not_called_a_recommendation() -> None:
    text = text_of(summary.recommendation(Snapshot(recommendation=recommended(verdict="inconclusive"))))
    assert "No clear winner" in text
    assert "Recommended" not in text
    assert "no recommendation" in text_of(summary.recommendation(Snapshot()))


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (61.9, "1:01"), (-3, "0:00"), (3725, "62:05")])
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_second_demo_of_a_home_says_where_the_first_is(tmp_path: Path) -> None:
    me = Mark.of(os.getpid())
    Running(me, me, 9191).write(tmp_path)
    result = CliRunner().invoke(app, ["demo", "--home", str(tmp_path)], env={"WIDELOOP_HOME": None})
    assert result.exit_code == 2
    assert f"running already (process {me.pid}): http://localhost:9191" in result.stderr
    assert Running.read(tmp_path) is not None
