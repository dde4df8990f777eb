"""A real Airflow for tests: its own home and ports, started and ended as the demo does it."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil
import pytest
from wideloop.manifests.clients import get_load_generator
from wideloop.manifests.engines import get_engine
from wideloop.operators.commands.demo import airflow_process
from wideloop.operators.commands.demo.airflow_home import USER, AirflowHome
from wideloop.operators.commands.demo.api import AirflowApi
from wideloop.operators.commands.demo.checks import free_port
from wideloop.operators.commands.demo.errors import DemoError
from wideloop.operators.request import DEFAULTS
from wideloop.operators.settings import Settings
from wideloop.operators.targets.local.process import marked
from wideloop.operators.targets.local.target import LocalTarget
from wideloop.results.airflow_names import GPU_POOL
from wideloop.results.store import Store

from tests.installation import Installation
from tests.patience import PATIENCE

T = TypeVar("T")

#: A load that takes seconds and still has a plateau that the measurement's gates accept.
SMALL: dict[str, Any] = {
    "isl": 256,
    "osl": 32,
    "concurrency": [8],
    "requests_per_slot": 4,
    "warmup_requests": 2,
    "trials": 2,
    "repeats": 0,
}
START_S = 240.0 * PATIENCE
SIMULATED = "simulated"
ENVIRONMENTS = ("airflow", SIMULATED, "benchmark")
#: Settings of stores that a test may put elsewhere than below the home.
STORES = ("RESULTS_URL", "STUDY_URL")


class AirflowServer:
    """One ``airflow standalone`` below ``folder``, with the DAGs of this project.

    It uses the environments of ``project`` and changes none: each is linked into a folder of its own.

    Args:
        environment: variables that it gets besides those of this process.
        installation: of this project, from which Airflow runs instead of from this clone. The simulated engine's
            environment is then the one that the installation makes.
    """

    def __init__(
        self,
        folder: Path,
        project: Settings,
        environment: Mapping[str, str] | None = None,
        installation: Installation | None = None,
    ) -> None:
        environments = folder / "venvs"
        environments.mkdir()
        for name in ENVIRONMENTS:
            (environments / name).symlink_to(project.environments / name, target_is_directory=True)
        self.home = AirflowHome(folder, free_port(_first_port()))
        if installation is None:
            LocalTarget(project).prepare_image(get_engine(SIMULATED), get_load_generator(DEFAULTS["client"]))
            shutil.copy(project.environments / f"{SIMULATED}.verified.json", environments)
        else:
            (environments / SIMULATED).unlink()
            installation.make_environment(SIMULATED, folder)
            self.home = replace(self.home, dags=installation.package / "dags", python=installation.python)
        given = {name.lower(): url for name in STORES if (url := (environment or {}).get(f"WIDELOOP_{name}"))}
        self.settings = Settings(home=folder, **given)
        self.target = LocalTarget(self.settings)
        self.process: airflow_process.Mark | None = None
        self._environment = environment or {}

    # ---- its life

    def start(self) -> None:
        """Start and wait until every component beats and every DAG is loaded."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self._environment.items():
                patch.setenv(name, value)
            self.process = airflow = airflow_process.start(self.home)
        self.api = AirflowApi(self.home.url, USER, self.home.password())
        airflow_process.wait_until(self.api.healthy, airflow, self.home, START_S, "Airflow's start")
        dags = {path.stem for path in self.home.dags.glob("*.py")}
        airflow_process.wait_until(lambda: dags <= self.api.dag_ids(), airflow, self.home, START_S, "loading the DAGs")
        assert self.api.import_errors() == []

    def environment(self) -> dict[str, str]:
        """What a command on Airflow's host runs in."""
        return self.home.environment({**os.environ, **self._environment})

    def prepare(self, deployments: int = 1) -> None:
        """The pool, and every DAG that has no schedule of its own ready to be triggered."""
        self.api.set_pool(GPU_POOL, deployments, "deployments that may exist at once")
        for dag in self.api.dag_ids():
            self.api.unpause(dag)

    def kill(self) -> None:
        """``kill -9`` every process of Airflow at once, as a machine that runs out of memory might."""
        assert self.process is not None
        for process in airflow_process.members(self.process):
            process.suspend()
        for process in airflow_process.members(self.process):
            process.kill()
        airflow_process.stop(self.process)  # collects the dead

    def stop(self) -> None:
        """End Airflow, then every engine, whatever state a test left them in."""
        if self.process is not None:
            airflow_process.stop(self.process)
        for owned in self.target.list_owned():
            self.target.delete(owned.name)

    # ---- its runs

    def run(self, dag_id: str, **conf: Any) -> str:
        """Start a run; returns once Airflow has written it down.

        It does so after its answer, and not while its next request waits for the database, which is locked until then.
        """
        run = self.api.trigger(dag_id, conf)
        path = f"/api/v2/dags/{dag_id}/dagRuns"
        self.until(
            lambda: any(r["dag_run_id"] == run for r in self.get(path, order_by="-run_after")["dag_runs"]), 60, run
        )
        return run

    def wait(self, dag_id: str, run_id: str, timeout_s: float = 300, expect: str = "success") -> None:
        """Wait for the end of a run, which must be ``expect``; what failed, with its log, is in the message."""
        state = self.until(lambda: self._ended(dag_id, run_id), timeout_s, f"the end of {dag_id} {run_id}")
        assert state == expect, f"{dag_id} {run_id} ended in {state}\n{self.failures(dag_id, run_id)}"

    def _ended(self, dag_id: str, run_id: str) -> str | None:
        state = self.api.run_state(dag_id, run_id)
        return state if state in ("success", "failed") else None

    def until(self, look: Callable[[], T | None], timeout_s: float, what: str) -> T:
        """Look until there is something; fails at once when Airflow ends, and not when it is slow to answer."""
        assert self.process is not None
        deadline = time.monotonic() + timeout_s * PATIENCE
        while not (result := _answer(look)):
            assert self.process.alive, f"Airflow ended:\n{airflow_process.tail(self.home.log)}"
            assert time.monotonic() < deadline, (
                f"{what} did not come within {timeout_s * PATIENCE:.0f} s; {self.doing()}"
            )
            time.sleep(0.3)
        return result

    def doing(self) -> str:
        """What runs now, for a message."""
        runs = self.get("/api/v2/dags/~/dagRuns", state=["queued", "running"])["dag_runs"]
        unfinished = {
            r["dag_run_id"]: self.api.tasks(
                r["dag_id"], r["dag_run_id"], "running", "deferred", "queued", "up_for_retry"
            )
            for r in runs
        }
        return f"unfinished: {unfinished}; deployments: {self.left_behind()}"

    def failures(self, dag_id: str, run_id: str) -> str:
        """The tails of the logs of the tasks that failed."""
        failed = self.api.tasks(dag_id, run_id, "failed", "upstream_failed")
        return "\n".join(f"--- {task}\n{self.log(dag_id, run_id, task)[-3000:]}" for task in failed)

    def log(self, dag_id: str, run_id: str, task_id: str) -> str:
        """All attempts of a task, as text."""
        folder = self.home.folder / "logs" / f"dag_id={dag_id}" / f"run_id={run_id}" / f"task_id={task_id}"
        lines = []
        for file in sorted(folder.rglob("attempt=*.log")):
            lines.append(f"[{file.name}]")
            for line in file.read_text(errors="replace").splitlines():
                with suppress(ValueError):
                    entry = json.loads(line)
                    lines.append(str(entry.get("event", "")))
                    lines += [f"{e.get('exc_type')}: {e.get('exc_value')}" for e in entry.get("error_detail") or ()]
        return "\n".join(lines)

    def attempts(self, dag_id: str, run_id: str, task_id: str) -> int:
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}"
        return int(self.get(path)["try_number"])

    def states(self, dag_id: str, run_id: str) -> dict[str, str | None]:
        """The state of every task of a run, by id."""
        tasks = self.get(f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances", limit=100)["task_instances"]
        return {task["task_id"]: task["state"] for task in tasks}

    def get(self, path: str, **params: Any) -> Any:
        return self.api._call("GET", path, params=params)

    def post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        """The bare answer, refusals included."""
        return self.api._send("POST", path, json=body)

    def running(self, dag_id: str) -> str:
        """The id of the run that is at work."""
        (run,) = self.get(f"/api/v2/dags/{dag_id}/dagRuns", state=["running"])["dag_runs"]
        return str(run["dag_run_id"])

    # ---- its traces

    @contextmanager
    def store(self) -> Iterator[Store]:
        with Store.open(self.settings.results_url) as store:
            yield store

    def left_behind(self) -> list[str]:
        """Deployments that exist, and processes that bear our mark."""
        processes = [f"{p.pid} of {folder.name}" for p, folder in marked(self.settings.local)]
        return [owned.name for owned in self.target.list_owned()] + processes

    def benchmarking(self, kind: str = "trial-") -> str | None:
        """The name of a deployment whose load generator is at work."""
        for client in self.settings.local.glob(f"{kind}*/clients/*/process.json"):
            name, client_name = client.parts[-4], client.parts[-2]
            if self.target.client_status(name, client_name).state == "running":
                return name
        return None

    def client(self, deployment: str) -> str | None:
        """What tells one start of a deployment's load generator from another."""
        with suppress(FileNotFoundError):
            for record in self.settings.local.glob(f"{deployment}/clients/*/process.json"):
                return record.read_text()
        return None

    def engine_process(self, deployment: str, component: str) -> psutil.Process:
        """The engine itself, below the shell that keeps its exit status."""
        folder = self.settings.local / deployment / "components" / component
        shell = psutil.Process(json.loads((folder / "process.json").read_text())["pid"])
        return shell.children()[0]

    def task_processes(self, dag_id: str, run_id: str, task_id: str) -> dict[str, psutil.Process]:
        """Of a running task: the executor's worker that supervises it, and its own process."""
        assert self.process is not None
        task = self.get(f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}")["id"]
        titles = {" ".join(p.cmdline()).strip(): p for p in airflow_process.members(self.process)}
        return {
            "supervisor": titles[f"airflow worker -- LocalExecutor: {task}"],
            "task": titles[f"airflow worker -- {task}"],
        }


def _first_port() -> int:
    """Test processes look for a port each in a range of its own: none is bound before Airflow has started."""
    process = os.environ.get("PYTEST_XDIST_WORKER", "gw0")
    return 18_080 + 100 * int(process.removeprefix("gw"))


def _answer(look: Callable[[], T | None]) -> T | None:
    """None when Airflow did not answer in time: SQLite has one writer, and the machine other things to do."""
    try:
        return look()
    except DemoError as error:
        if not isinstance(error.__cause__, httpx.TimeoutException):
            raise
        return None
