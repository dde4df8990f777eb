"""What an installation lacks, on real databases and folders; Airflow's own side is in ../airflow/test_doctor.py."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from wideloop.operators.settings import settings
from wideloop.operators.steps import doctor
from wideloop.operators.targets.kubernetes.preflight.check_result import CheckResult

from tests.unit import postgres


@pytest.fixture
def look(wideloop_home: Path, monkeypatch: pytest.MonkeyPatch):
    """The checks by name under given settings; without those of Airflow, which has no database here."""

    def look(**variables: str) -> dict[str, CheckResult]:
        for name, value in variables.items():
            monkeypatch.setenv(f"WIDELOOP_{name}", value)
        settings.cache_clear()
        monkeypatch.setattr(doctor, "_AIRFLOW_CHECKS", "builtins:tuple")
        return {check.name: check for check in doctor.checks()}

    return look


def test_a_fresh_home_has_all_that_a_cycle_needs(look) -> None:
    results = look()
    assert {name: result.state for name, result in results.items()} == {
        "results database": "ok",
        "study database": "ok",
        "artefact store": "ok",
        "target local": "ok",
    }


def test_two_databases_of_one_postgresql_server_are_enough(look, postgres_server: postgres.Server) -> None:
    with postgres_server.database() as results, postgres_server.database() as study:
        # As people write it; SQLAlchemy's own default is a driver that is not installed.
        url = postgres_server.url(study).replace("+psycopg", "")
        checks = look(RESULTS_URL=postgres_server.url(results), STUDY_URL=url)
    assert (checks["results database"].state, checks["study database"].state) == ("ok", "ok")
    assert postgres.PASSWORD not in str(checks)


@pytest.mark.parametrize(
    ("variable", "value", "check", "message"),
    [
        ("RESULTS_URL", "postgresql://u:hidden@127.0.0.1:9/x", "results database", "Connection refused"),
        ("RESULTS_URL", "mysql://u:hidden@h/x", "results database", "results database mysql.*is not supported"),
        ("STUDY_URL", "postgres://u:hidden@127.0.0.1:9/x", "study database", "study database.*Connection refused"),
        ("STUDY_URL", "no url", "study database", "the study database's URL cannot be read"),
        ("ARTEFACTS_URL", "file:///proc/no-such-place", "artefact store", "No such file|Error"),
        ("ARTEFACTS_URL", "nonsense://bucket/x", "artefact store", "nonsense"),
        ("KUBERNETES_CONN_ID", "no-such", "connection no-such", "cannot be used as a connection|not installed"),
        ("HF_CONN_ID", "no-such", "connection no-such", "cannot be used as a connection|not installed"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_setting_and_without_secrets(
    look, variable: str, value: str, check: str, message: str
) -> None:
    result = look(**{variable: value})[check]
    assert result.state == "error"
    (finding,) = result.findings
    assert finding.value == f"WIDELOOP_{variable}" and f"WIDELOOP_{variable}" in finding.suggestion
    assert "hidden" not in str(finding)
    assert re.search(message, finding.rule, re.DOTALL), finding.rule


def test_a_cluster_without_an_exporter_is_told_what_its_results_will_lack(look, tmp_path: Path) -> None:
    kubeconfig = str(tmp_path / "none")
    assert "tokens per joule" in look(KUBECONFIG=kubeconfig)["GPU telemetry"].found
    assert "GPU telemetry" not in look(TELEMETRY__DCGM='["http://{host}:9400/metrics"]')


def test_the_study_needs_a_database_of_its_own(look, wideloop_home: Path) -> None:
    url = f"sqlite:///{wideloop_home}/one.db"
    result = look(RESULTS_URL=url, STUDY_URL=url)["study database"]
    assert result.state == "error" and "needs one of its own" in result.findings[0].rule


def test_without_airflow_the_rest_is_looked_at(look, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    assert look()["Airflow"].state == "not checked"
