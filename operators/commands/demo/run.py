"""The demo from start to end: check, start Airflow, run a cycle, show it, serve, and leave nothing behind."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType

from rich.console import Console
from wideloop.manifests.errors import WideloopError
from wideloop.operators.bootstrap import demo_command
from wideloop.operators.commands.demo import airflow_process, checks, summary
from wideloop.operators.commands.demo.airflow_home import USER, AirflowHome
from wideloop.operators.commands.demo.airflow_process import Mark, Running
from wideloop.operators.commands.demo.api import AirflowApi
from wideloop.operators.commands.demo.errors import DemoError
from wideloop.operators.commands.demo.interrupted import end_interrupted
from wideloop.operators.commands.demo.progress import Progress
from wideloop.operators.commands.demo.snapshot import Snapshot
from wideloop.operators.request import DEFAULTS
from wideloop.operators.settings import Settings, make_private
from wideloop.operators.targets import open_target
from wideloop.results.airflow_names import CYCLE, GPU_POOL, JANITOR, TRIAL, TUNE
from wideloop.results.store import Store

#: What runs when the cycle does: unpaused by the demo, the rest ships paused for people to try.
UNPAUSED = (TRIAL, TUNE, JANITOR, CYCLE)
_START_S = 300.0


class Demo:
    """One demo of one home folder.

    Args:
        home: configuration of its Airflow.
        settings: of the project, for the results store and the local target.
        console: console for its output.
    """

    def __init__(self, home: AirflowHome, settings: Settings, console: Console) -> None:
        self._home = home
        self._settings = settings
        self._console = console

    def run(self, conf: dict[str, object], *, serve: bool) -> int:
        """Run one cycle with the params ``conf``; 0 when it succeeded.

        Raises:
            DemoError: this machine or another demo is in the way, or Airflow did not start.
        """
        left = self._left_behind()
        make_private(self._home.home)
        checks.require_disk(self._home.home)
        checks.make_environments(self._home.home)
        if left is None:
            checks.require_port(self._home.port, self._home.host)
            checks.require_memory()
        else:
            self._home = replace(self._home, port=left.port)
        with _interruptible():
            airflow = left.airflow if left else airflow_process.start(self._home)
            try:
                Running(Mark.of(os.getpid()), airflow, self._home.port).write(self._home.home)
                status = self._cycle(airflow, conf, taken_over=left is not None)
                if serve:
                    self._serve(airflow)
            finally:
                self._leave(airflow)
        return status

    def _left_behind(self) -> Running | None:
        """The Airflow that a killed demo left running; its cycle still runs, so this demo adopts it."""
        last = Running.read(self._home.home)
        if last is None:
            return None
        if last.command.alive:
            raise DemoError(
                f"a demo of this home is running already (process {last.command.pid}): "
                f"http://localhost:{last.port}; end it with Ctrl-C there, or choose another home and port: "
                f"WIDELOOP_HOME=/path {demo_command(PORT=last.port + 1)}"
            )
        if last.airflow.alive:
            return last
        airflow_process.stop(last.airflow)
        Running.forget(self._home.home)
        return None

    def _cycle(self, airflow: Mark, conf: dict[str, object], *, taken_over: bool) -> int:
        api = AirflowApi(self._home.url, USER, self._home.password())
        with Progress(self._console) as progress:
            progress.say("starting Airflow")
            airflow_process.wait_until(api.healthy, airflow, self._home, _START_S, "Airflow's start")
            progress.say("loading the DAGs")
            airflow_process.wait_until(lambda: self._loaded(api), airflow, self._home, _START_S, "loading the DAGs")
            api.set_pool(GPU_POOL, 1, "deployments that may exist at once")
            for dag in UNPAUSED:
                api.unpause(dag)
            run = self._run(api, conf, progress, taken_over=taken_over)
            state, snapshot = self._follow(api, run, airflow, progress)
        self._console.print(summary.recommendation(snapshot))
        if state != "success":
            self._explain(api, run)
        return 0 if state == "success" else 1

    def _run(self, api: AirflowApi, conf: dict[str, object], progress: Progress, *, taken_over: bool) -> str:
        """The id of the cycle to follow: one that still runs in an Airflow taken over, else a new one."""
        if taken_over and (unfinished := api.unfinished_runs(CYCLE)):
            progress.say("following the cycle that still runs")
            return unfinished[0][0]
        if not taken_over:
            progress.say("looking for interrupted runs")
            if ended := end_interrupted(api):
                progress.say(f"marked {ended} interrupted run{'s' * (ended > 1)} as failed; their engines have ended")
        progress.say("starting the cycle")
        return api.trigger(CYCLE, conf)

    def _explain(self, api: AirflowApi, run: str) -> None:
        """Which task failed first, and the page with its log."""
        page = f"{self._home.url}/dags/{CYCLE}/runs/{run}"
        if failed := api.tasks(CYCLE, run, "failed"):
            page += f"/tasks/{failed[0]}"
            self._console.print(f"The cycle failed in {failed[0]}; also in: {', '.join(failed[1:]) or 'nothing else'}.")
        self._console.print(f"Its log: {page}", highlight=False, soft_wrap=True)

    def _loaded(self, api: AirflowApi) -> bool:
        if errors := api.import_errors():
            raise DemoError("a DAG file cannot be loaded: " + errors[0])
        return set(UNPAUSED) <= api.dag_ids()

    def _follow(self, api: AirflowApi, run: str, airflow: Mark, progress: Progress) -> tuple[str, Snapshot]:
        """Show the run until it ended; its state and all the store has of it."""
        with Store.open(self._settings.results_url) as store:
            while True:
                # The state first: what the store has was then written before the run ended.
                state = api.run_state(CYCLE, run)
                snapshot = Snapshot.read(store, CYCLE, run)
                if state in ("success", "failed"):
                    progress.show(snapshot)
                    return state, snapshot
                if not airflow.alive:
                    raise DemoError(f"Airflow ended in mid-cycle:\n{airflow_process.tail(self._home.log)}")
                doing = api.tasks(CYCLE, run, "running", "deferred", "queued")
                progress.show(snapshot, f"running: {', '.join(doing)}" if doing else "waiting for the scheduler")
                time.sleep(2)

    def _serve(self, airflow: Mark) -> None:
        self._console.print(f"Results: {self._home.url}/plugin/wideep")
        # Printed to a terminal only, never to a log file.
        shown = self._home.password() if self._console.is_terminal else f"in {self._home.passwords}"
        self._console.print(f"Log in as {USER}, password {shown}", highlight=False, soft_wrap=True)
        self._console.print("Serving until Ctrl-C.")
        while airflow.alive:
            time.sleep(1)
        raise DemoError(f"Airflow ended:\n{airflow_process.tail(self._home.log)}")

    def _leave(self, airflow: Mark) -> None:
        """End Airflow, then the engines: in the other order a task could start them again."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        self._console.print("Stopping Airflow and the engines.")
        try:
            airflow_process.stop(airflow)
            Running.forget(self._home.home)
        finally:
            delete_deployments()


def delete_deployments() -> None:
    """Delete every deployment of this installation on the target that the demo uses; none on a cluster.

    Raises:
        DemoError: some could not be deleted; all others were.
    """
    stuck = []
    target = open_target(DEFAULTS["target"])
    for owned in target.list_owned():
        try:
            target.delete(owned.name)
        except (OSError, WideloopError) as error:
            stuck.append(f"{owned.name}: {error}")
    if stuck:
        raise DemoError(f"not deleted: {'; '.join(stuck)}")


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C, a closed terminal and ``kill`` all end the demo in the same orderly way.

    Handlers are set even where a shell ignores SIGINT for a background job: an ignored signal would be
    ignored by Airflow too, and it stops cleanly on nothing else.
    """

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {n: signal.signal(n, interrupt) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
