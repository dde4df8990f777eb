"""The few calls of Airflow's REST API that the demo needs."""

from __future__ import annotations

import time
from typing import Any, Literal

import httpx
from wideloop.operators.commands.demo.errors import DemoError

RunState = Literal["queued", "running", "success", "failed"]
#: Before a request that met a server error is sent again.
_PAUSES_S = (1.0, 3.0, 10.0)
_PARTS = ("metadatabase", "scheduler", "triggerer", "dag_processor")


class AirflowApi:
    """A client that logs in by itself, and again when its token has expired.

    Args:
        url: of the server, without a path.
        user: and ``password``: of a user with the role admin.
        transport: how requests travel, when not by the network.
    """

    def __init__(self, url: str, user: str, password: str, transport: httpx.BaseTransport | None = None) -> None:
        self._credentials = {"username": user, "password": password}
        self._http = httpx.Client(base_url=url, timeout=30, transport=transport)

    def healthy(self) -> bool:
        """Whether every component of Airflow reports a recent heartbeat."""
        try:
            answer = self._http.get("/api/v2/monitor/health", timeout=5)
        except httpx.HTTPError:
            return False
        if answer.status_code != 200:
            return False
        health = answer.json()
        return all((health.get(part) or {}).get("status") == "healthy" for part in _PARTS)

    def import_errors(self) -> list[str]:
        """One text per DAG file that could not be loaded."""
        errors = self._call("GET", "/api/v2/importErrors")["import_errors"]
        return [f"{error['filename']}: {error['stack_trace'].strip().splitlines()[-1]}" for error in errors]

    def dag_ids(self) -> set[str]:
        return {dag["dag_id"] for dag in self._call("GET", "/api/v2/dags", params={"limit": 100})["dags"]}

    def set_pool(self, name: str, slots: int, description: str) -> None:
        """Create or change a pool; deferred tasks count, as a waiting deployment holds its GPUs too."""
        wanted = {"slots": slots, "description": description, "include_deferred": True}
        if self._send("GET", f"/api/v2/pools/{name}").status_code == 404:
            self._call("POST", "/api/v2/pools", json={"name": name, **wanted})
        else:
            self._call("PATCH", f"/api/v2/pools/{name}", json={"pool": name, **wanted})

    def unpause(self, dag_id: str) -> None:
        self._call("PATCH", f"/api/v2/dags/{dag_id}", json={"is_paused": False})

    def trigger(self, dag_id: str, conf: dict[str, Any]) -> str:
        """Start a run now; its id. A wrong ``conf`` is refused with Airflow's own message."""
        body = {"logical_date": None, "conf": conf}
        run: str = self._call("POST", f"/api/v2/dags/{dag_id}/dagRuns", json=body)["dag_run_id"]
        return run

    def unfinished_runs(self, dag_id: str) -> list[tuple[str, dict[str, Any]]]:
        """Id and ``conf`` of the runs that are queued or running, the oldest first."""
        query = {"state": ["queued", "running"], "order_by": "run_after", "limit": 100}
        runs = self._call("GET", f"/api/v2/dags/{dag_id}/dagRuns", params=query)["dag_runs"]
        return [(run["dag_run_id"], run["conf"] or {}) for run in runs]

    def fail(self, dag_id: str, run_id: str) -> None:
        """Mark a run as failed: its tasks are ended, except teardowns, which still run and then end it."""
        self._call("PATCH", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}", json={"state": "failed"})

    def run_state(self, dag_id: str, run_id: str) -> RunState:
        state: RunState = self._call("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}")["state"]
        return state

    def tasks(self, dag_id: str, run_id: str, *states: str) -> list[str]:
        """Ids of the run's tasks that are in one of ``states``, those that ended first before others."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances"
        answer = self._call("GET", path, params={"state": list(states), "order_by": "end_date", "limit": 100})
        return [task["task_id"] for task in answer["task_instances"]]

    def close(self) -> None:
        self._http.close()

    def _call(self, method: str, path: str, **options: Any) -> Any:
        answer = self._send(method, path, **options)
        if answer.is_error:
            raise DemoError(f"Airflow refused {method} {path}: {answer.status_code} {_detail(answer)}")
        return answer.json()

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """The answer. A server error is asked for again where that does no harm: SQLite may just be locked."""
        for pause_s in _PAUSES_S:
            answer = self._send_once(method, path, **options)
            if not answer.is_server_error or method == "POST":
                return answer
            time.sleep(pause_s)
        return self._send_once(method, path, **options)

    def _send_once(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **options)
            if answer.status_code == 401:
                self._log_in()
                answer = self._http.request(method, path, **options)
        except httpx.HTTPError as error:
            raise DemoError(f"Airflow does not answer {method} {path}: {error}") from error
        return answer

    def _log_in(self) -> None:
        answer = self._http.post("/auth/token", json=self._credentials)
        if answer.is_error:
            raise DemoError(f"Airflow refused the demo's login: {answer.status_code} {_detail(answer)}")
        self._http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"


def _detail(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return answer.text[:200]
