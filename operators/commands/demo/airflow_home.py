"""The configuration of the demo's own Airflow: standalone, LocalExecutor, SQLite, everything below one folder."""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from wideloop.operators.bootstrap import PROJECT
from wideloop.operators.commands.demo.checks import free_port

USER = "admin"
#: The one setting by which any Airflow finds the DAG files of the installed package.
_BUNDLES = [{"name": "wideloop", "classpath": "wideloop.operators.airflow.dag_bundle.WideloopDagBundle", "kwargs": {}}]


@dataclass(frozen=True)
class AirflowHome:
    """Where the demo's Airflow lives and where it listens.

    Attributes:
        home: the project's home folder; Airflow's own is ``airflow`` below it.
        host: address the web server binds, loopback unless chosen otherwise.
        port: of the web server and API.
        dags: folder of the DAG files, as the DAG bundle of that environment finds it.
        python: interpreter of the environment that holds Airflow and this project.
    """

    home: Path
    port: int = 8080
    host: str = "127.0.0.1"
    dags: Path = PROJECT / "dags"
    python: Path = Path(sys.executable)

    @property
    def folder(self) -> Path:
        return self.home / "airflow"

    @property
    def log(self) -> Path:
        """Output of all Airflow's components."""
        return self.folder / "standalone.log"

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    @property
    def passwords(self) -> Path:
        return self.folder / "passwords.json"

    def password(self) -> str:
        """The password of :data:`USER`: made once, kept in a file only its owner can read."""
        if not self.passwords.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            unfinished = self.passwords.with_suffix(".tmp")
            unfinished.unlink(missing_ok=True)
            with os.fdopen(os.open(unfinished, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600), "w") as file:
                json.dump({USER: secrets.token_urlsafe(9)}, file)
            unfinished.replace(self.passwords)
        stored: dict[str, str] = json.loads(self.passwords.read_text())
        return stored[USER]

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """The environment Airflow is started in.

        Settings of another Airflow that the caller's shell may hold (its database, say) are dropped:
        the demo touches nothing outside its home.
        """
        kept = {k: v for k, v in inherited.items() if not k.startswith("AIRFLOW_")}
        binaries = str(self.python.parent)
        return {
            **kept,
            # standalone starts its components as `airflow ...`
            "PATH": f"{binaries}{os.pathsep}{inherited.get('PATH', os.defpath)}",
            "WIDELOOP_HOME": str(self.home),
            # The demo triggers its cycle itself; a weekly schedule would start a second one beside it.
            "WIDELOOP_CYCLE_SCHEDULE": "",
            "AIRFLOW_HOME": str(self.folder),
            **{f"AIRFLOW__{key}": str(value) for key, value in self._settings().items()},
        }

    def _settings(self) -> dict[str, object]:
        return {
            "DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(_BUNDLES),
            "CORE__LOAD_EXAMPLES": False,
            "CORE__EXECUTOR": "LocalExecutor",
            # Each slot is a process of its own; the default of 32 would take 6 GB.
            "CORE__PARALLELISM": 4,
            "CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
            "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": self.passwords,
            # A DAG file that imports slowly on a busy machine must not make its DAGs vanish.
            "CORE__DAGBAG_IMPORT_TIMEOUT": 120,
            "DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT": 180,
            # A changed file is read at once all the same; unchanged ones cost seconds of CPU each.
            "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": 600,
            "DAG_PROCESSOR__STALE_DAG_THRESHOLD": 300,
            "DAG_PROCESSOR__PRINT_STATS_INTERVAL": 0,
            # A task whose process was killed is noticed after this long.
            "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": 60,
            # After a killed scheduler, its queued tasks are taken over this often.
            "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": 60,
            # Between two tasks of a trial lies one look of the scheduler.
            "SCHEDULER__SCHEDULER_HEARTBEAT_SEC": 1,
            "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": 0.5,
            "API__HOST": self.host,
            "API__PORT": self.port,
            "API__BASE_URL": self.url,
            "API__WORKERS": 1,
            "API__INSTANCE_NAME": "wideloop demo",
            "CORE__EXECUTION_API_SERVER_URL": f"http://localhost:{self.port}/execution/",
            "LOGGING__WORKER_LOG_SERVER_PORT": (worker_logs := free_port(8793, "0.0.0.0")),
            "LOGGING__TRIGGER_LOG_SERVER_PORT": free_port(worker_logs + 1, "0.0.0.0"),
            "LOGGING__COLORED_CONSOLE_LOG": False,
            "LOGGING__UVICORN_LOGGING_LEVEL": "WARNING",
        }
