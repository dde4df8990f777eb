"""What ``wideloop doctor`` says of an Airflow, from a fresh database to one that can run a cycle."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from wideloop.operators.airflow.dag_bundle import CLASSPATH
from wideloop.operators.settings import Settings, TelemetrySettings

DOCS = Path(__file__).parents[4] / "docs"

#: Looks four times: without a database, after its migration, with DAGs and a pool, and as on a cluster.
SCRIPT = """
import json, os, sys
from datetime import datetime, timedelta, timezone

def look():
    from wideloop.operators.airflow import doctor
    found = {c.name: (c.state, " ".join(f"{f.rule} {f.suggestion}" for f in c.findings)) for c in doctor.checks()}
    print(json.dumps(found))

look()
from airflow.utils.db import initdb
initdb()
look()
from airflow.jobs.job import Job
from airflow.models.dag import DagModel
from airflow.models.dagbundle import DagBundleModel
from airflow.models.pool import Pool
from airflow.utils.session import create_session
from wideloop.operators.airflow import doctor
with create_session() as session:
    session.add(DagBundleModel(name="wideloop"))
    session.flush()
    for dag in doctor.dag_ids():
        session.add(DagModel(dag_id=dag, bundle_name="wideloop", is_paused=dag == "wideep_trial", fileloc="x"))
    session.add(Job(job_type="TriggererJob", latest_heartbeat=datetime.now(timezone.utc)))
Pool.create_or_update_pool("wideep_gpu", slots=1, description="", include_deferred=False)
look()
with create_session() as session:
    session.query(DagModel).update({"is_paused": False})
    session.query(Job).update({"latest_heartbeat": datetime.now(timezone.utc) - timedelta(hours=1)})
Pool.create_or_update_pool("wideep_gpu", slots=2, description="", include_deferred=True)
look()
"""


@pytest.fixture(scope="module")
def looks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, tuple[str, str]]]:
    home = tmp_path_factory.mktemp("airflow")
    bundles = [{"name": "wideloop", "classpath": CLASSPATH, "kwargs": {}}]
    environment = os.environ | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(bundles),
        "WIDELOOP_HOME": str(home / "wideloop"),
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        cwd=home,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def test_a_database_that_is_not_migrated_is_named(looks: list[dict[str, tuple[str, str]]]) -> None:
    state, text = looks[0]["Airflow's database"]
    assert state == "error" and "airflow db migrate" in text


def test_one_setting_gives_airflow_the_dags_of_the_package(looks: list[dict[str, tuple[str, str]]]) -> None:
    assert looks[0]["DAG bundle"][0] == "ok"


@pytest.mark.parametrize(
    ("look", "check", "state", "text"),
    [
        (1, "DAGs", "error", "wideep_cycle.* are not known"),
        (1, "pool", "error", "airflow pools set wideep_gpu 1 .* --include-deferred"),
        (1, "triggerer", "error", "has never run"),
        (2, "DAGs", "warning", "airflow dags unpause wideep_trial"),
        (2, "pool", "error", "does not count deferred tasks"),
        (2, "triggerer", "ok", ""),
        (3, "DAGs", "ok", ""),
        (3, "pool", "ok", ""),
        (3, "triggerer", "error", "was last heard of"),
    ],
)
def test_each_thing_that_a_cycle_needs_is_looked_at(
    looks: list[dict[str, tuple[str, str]]], look: int, check: str, state: str, text: str
) -> None:
    assert looks[look][check][0] == state
    assert re.search(text, looks[look][check][1]), looks[look][check]


@pytest.mark.parametrize(
    ("executor", "urls", "state"),
    [
        ("LocalExecutor", {}, "ok"),
        ("KubernetesExecutor", {}, "error"),
        ("airflow.providers.celery.executors.celery_executor.CeleryExecutor", {}, "error"),
        ("KubernetesExecutor", {"RESULTS_URL": "postgresql://h/r", "STUDY_URL": "postgresql://h/s"}, "warning"),
        (
            "KubernetesExecutor",
            {"RESULTS_URL": "postgresql://h/r", "STUDY_URL": "postgresql://h/s", "ARTEFACTS_URL": "s3://c@b/x"},
            "ok",
        ),
    ],
)
def test_files_of_one_host_are_no_stores_for_workers_on_others(
    wideloop_home: Path, monkeypatch: pytest.MonkeyPatch, executor: str, urls: dict[str, str], state: str
) -> None:
    from airflow.configuration import conf
    from wideloop.operators.airflow import doctor
    from wideloop.operators.settings import settings

    for name, url in urls.items():
        monkeypatch.setenv(f"WIDELOOP_{name}", url)
    settings.cache_clear()
    monkeypatch.setattr(conf, "get", lambda *_: executor)
    assert doctor._shared_stores().state == state


# ---- the files for Airflow's image and chart


def test_the_charts_values_name_settings_that_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = yaml.safe_load((DOCS / "airflow" / "values.yaml").read_text())
    variables = {v["name"]: v["value"] for v in values["env"]}
    secrets = {s["envName"] for s in values["secret"]}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = Settings(home=tmp_path)
    ours = {n.removeprefix("WIDELOOP_").lower().split("__")[0] for n in (*variables, *secrets) if "WIDELOOP_" in n[:9]}
    assert ours <= set(Settings.model_fields)
    assert settings.telemetry == TelemetrySettings(dcgm=("http://{host}:9400/metrics",))
    # Each connection that a setting names is one that a secret holds.
    conn_ids = {settings.kubernetes_conn_id, settings.hf_conn_id, settings.artefacts_url.split("//")[1].split("@")[0]}
    assert {f"AIRFLOW_CONN_{str(c).upper()}" for c in conn_ids} <= secrets


def test_the_same_bundle_is_in_image_values_page_and_demo(tmp_path: Path) -> None:
    from wideloop.operators.commands.demo.airflow_home import AirflowHome

    values = yaml.safe_load((DOCS / "airflow" / "values.yaml").read_text())
    name = "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"
    (listed,) = (json.loads(v["value"]) for v in values["env"] if v["name"] == name)
    assert listed == [{"name": "wideloop", "classpath": CLASSPATH, "kwargs": {}}]
    assert json.loads(AirflowHome(tmp_path).environment({})[name]) == listed
    for file in ("airflow/Dockerfile", "airflow.md"):
        assert CLASSPATH in (DOCS / file).read_text()


def test_the_images_airflow_is_one_that_the_wheel_allows() -> None:
    from packaging.requirements import Requirement

    image = next(
        line for line in (DOCS / "airflow" / "Dockerfile").read_text().splitlines() if "AIRFLOW_IMAGE=" in line
    )
    version = image.rpartition(":")[2].partition("-")[0]
    pyproject = (DOCS.parent / "pyproject.toml").read_text()
    line = next(line for line in pyproject.splitlines() if '"apache-airflow>=' in line)
    assert version in Requirement(line.strip(' ",')).specifier
    assert yaml.safe_load((DOCS / "airflow" / "values.yaml").read_text())["airflowVersion"] == version
