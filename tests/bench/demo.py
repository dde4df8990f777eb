"""The demo as a person runs it, timed and watched from outside: minutes, memory, and overhead per trial."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from wideloop.operators.commands.demo import airflow_process
from wideloop.operators.commands.demo.airflow_process import Running
from wideloop.operators.commands.demo.checks import free_port
from wideloop.operators.settings import Settings

from tests.bench import history, overhead
from tests.bench.figure import Figure, parts
from tests.bench.memory import Sampler
from tests.bench.workspace import BenchError, Workspace, environment

FRESH_MIN, WARM_MIN, FIRST_MIN = 15.0, 10.0, 4.0
_FIRST_PORT = 19080
#: A demo that takes longer hangs.
_LIMIT_S = 3600.0
#: How long an interrupted demo may take to stop Airflow and the engines.
_LEAVE_S = 90.0


@dataclass(frozen=True)
class DemoRun:
    """A demo that ended well: when, what it took, and what it left running."""

    began: datetime
    ended: datetime
    memory: Figure
    left: int

    @property
    def seconds(self) -> float:
        return (self.ended - self.began).total_seconds()


def measure(workspace: Workspace) -> list[Figure]:
    """Run one demo and read what it left.

    Raises:
        BenchError: the demo failed; its home is kept to be looked at.
    """
    build_s = None
    if workspace.fresh:
        workspace.say("building the environments from nothing")
        home, build_s = workspace.fresh_home("demo")
    else:
        home = workspace.warm_home("demo")
    workspace.say("running the demo")
    run = run_demo(home, workspace.trials)
    past = history.read(home)
    figures = minutes(run, past, build_s)
    if past.times:
        figures += overhead.figures(past.times, past.trial_runs, past.retried)
    figures.append(run.memory)
    scope = "of the demo's command, Airflow, engines and clients, after its end"
    figures.append(Figure("processes left behind", 0, run.left, "processes", scope))
    return figures


def minutes(run: DemoRun, past: history.History, build_s: float | None) -> list[Figure]:
    """Wall times of the demo, with its stages as parts; ``build_s`` is what building the environments took."""
    stages = {s.name: (s.ended_at - s.started_at).total_seconds() for s in past.stages if s.ended_at}
    steps = {
        "until Airflow runs and the cycle is triggered": _since(run, past.triggered),
        **stages,
        "the cycle outside its stages": (past.run.end - past.triggered).total_seconds() - sum(stages.values()),
        "after the cycle until nothing runs any more": (run.ended - past.run.end).total_seconds(),
    }
    measured = sum(t.state == "complete" for t in past.trials)
    trials = f"{len(past.trials)} trials with the default one, {measured} of them measured"
    first = past.first_trial
    figures = []
    if build_s is not None:
        built = f"environments built with empty download caches {build_s / 60:.1f} min, demo {run.seconds / 60:.1f} min"
        figures.append(Figure("demo, fresh", FRESH_MIN, (build_s + run.seconds) / 60, "min", built))
    figures += [
        Figure(
            "demo, warm",
            WARM_MIN,
            run.seconds / 60,
            "min",
            f"environments ready, no other state; {trials}: {parts(steps, 's', 0)}",
        ),
        Figure(
            "first measured trial on the page",
            FIRST_MIN,
            _since(run, first.ended_at or first.started_at) / 60,
            "min",
            f"cycle triggered at {_since(run, past.triggered):.0f} s, baseline there at "
            f"{_since(run, past.baseline_shown):.0f} s, trial {first.number} asked at "
            f"{_since(run, first.started_at):.0f} s; all since the command's start",
        ),
        Figure(
            "baseline on the page",
            None,
            _since(run, past.baseline_shown) / 60,
            "min",
            "the default configuration's curve, measured before the sweep",
        ),
    ]
    return figures


def run_demo(home: Path, trials: int | None) -> DemoRun:
    """``wideloop demo --exit`` in ``home``, watched; nothing of it runs when this returns or raises.

    Raises:
        BenchError: it failed, or took longer than an hour.
    """
    binary = home / "venvs" / "airflow" / "bin" / "wideloop"
    command = [str(binary), "demo", "--exit", "--port", str(free_port(_FIRST_PORT))]
    if trials is not None:
        command += ["--trials", str(trials)]
    began = datetime.now(UTC)
    process = subprocess.Popen(command, env=environment(home), stdin=subprocess.DEVNULL, start_new_session=True)
    sampler = Sampler(home, process.pid)
    sampler.start()
    with _ended(process, home):
        try:
            status = process.wait(_LIMIT_S)
        except subprocess.TimeoutExpired as error:
            raise BenchError(f"the demo has not ended after {_LIMIT_S / 60:.0f} min") from error
        finally:
            sampler.stop()
    ended = datetime.now(UTC)
    if status:
        raise BenchError(f"the demo ended with status {status}: there is nothing to measure")
    return DemoRun(began, ended, sampler.figure(), len(sampler.processes()))


@contextmanager
def _ended(process: subprocess.Popen[bytes], home: Path) -> Iterator[None]:
    """Interrupt the demo when the body is left early, and clean up for it when it does not do so itself."""
    try:
        yield
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(_LEAVE_S)
            except subprocess.TimeoutExpired:
                _clean_up(process, home)


def _clean_up(process: subprocess.Popen[bytes], home: Path) -> None:
    from wideloop.operators.targets.local.target import LocalTarget

    running = Running.read(home)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if running is not None:
        airflow_process.stop(running.airflow)
    target = LocalTarget(Settings(home=home))
    for owned in target.list_owned():
        target.delete(owned.name)


def _since(run: DemoRun, moment: datetime) -> float:
    return (moment - run.began).total_seconds()
