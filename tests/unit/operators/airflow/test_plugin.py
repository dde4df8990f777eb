"""The plugin inside a real Airflow API server, with Airflow's own login."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# Airflow reads its configuration when it is imported, so it gets a process and a home of its own.
SCRIPT = """
import json, pathlib, sys
from airflow.utils.db import upgradedb
upgradedb()
from airflow.api_fastapi.app import create_app
from starlette.testclient import TestClient
home = pathlib.Path(sys.argv[1])
found = {}
with TestClient(create_app(), base_url="http://testserver") as client:
    passwords = json.loads((home / "simple_auth_manager_passwords.json.generated").read_text())
    for who in ("stranger", "viewer"):
        headers = {}
        if who != "stranger":
            login = {"username": who, "password": passwords[who]}
            headers["Authorization"] = "Bearer " + client.post("/auth/token", json=login).json()["access_token"]
        for path in ("/wideep/", "/wideep/cycles", "/wideep/api/cycles", "/wideep/static/page.css"):
            answer = client.get(path, headers=headers)
            found[f"{who} {path}"] = [answer.status_code, "make demo" in answer.text]
(home / "found.json").write_text(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list]:
    home = tmp_path_factory.mktemp("airflow")
    environment = os.environ | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "viewer:viewer",
        "AIRFLOW__API_AUTH__JWT_SECRET": "for this test only " * 5,
        "WIDELOOP_HOME": str(home / "wideloop"),
    }
    argv = [sys.executable, "-c", SCRIPT, str(home)]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=300, cwd=home)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads((Path(home) / "found.json").read_text())


@pytest.mark.parametrize("path", ["/wideep/", "/wideep/cycles", "/wideep/api/cycles"])
def test_a_stranger_sees_no_results(found: dict[str, list], path: str) -> None:
    assert found[f"stranger {path}"] == [401, False]


def test_a_viewer_sees_them(found: dict[str, list]) -> None:
    assert found["viewer /wideep/"] == [200, True]
    assert found["viewer /wideep/cycles"] == [200, True]
    assert found["viewer /wideep/api/cycles"][0] == 200


def test_static_files_need_no_login(found: dict[str, list]) -> None:
    assert found["stranger /wideep/static/page.css"][0] == 200
