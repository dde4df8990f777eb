"""Clients beside a deployment of this host, as real processes; and what they and engines may see."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from wideloop.manifests.errors import TargetError
from wideloop.operators.settings import Settings
from wideloop.operators.targets.local.process import marked
from wideloop.operators.targets.local.target import LocalTarget

from tests.unit.operators.targets.fake_engine import model, spec
from tests.unit.operators.targets.local_processes import OWNER, running, settled, shell, until


def ended(here: LocalTarget, client: str) -> None:
    until(lambda: here.client_status("one", client).state not in ("running", "absent"))


def test_a_client_runs_once_and_leaves_its_files_and_status(home: Settings, served: LocalTarget) -> None:
    out = served.client_dir("one", "bench")
    command = shell(f"echo run >> {out}/runs; echo done")
    for _ in range(2):
        served.run_client("one", "bench", command, "benchmark")
        ended(served, "bench")
    status = served.client_status("one", "bench")
    assert (status.state, status.exit_code, status.log_tail) == ("succeeded", 0, ("done",))
    assert (served.collect("one", "bench") / "runs").read_text() == "run\n"


def test_a_client_that_fails_says_so(served: LocalTarget) -> None:
    served.run_client("one", "bench", shell("echo no such model; exit 4"), "benchmark")
    ended(served, "bench")
    status = served.client_status("one", "bench")
    assert (status.state, status.exit_code, status.log_tail) == ("failed", 4, ("no such model",))


def test_a_client_is_found_again_by_another_process(home: Settings, served: LocalTarget) -> None:
    served.run_client("one", "bench", shell("sleep 60"), "benchmark")
    other = LocalTarget(home)
    assert other.client_status("one", "bench").state == "running"
    assert other.client_status("one", "bench").seconds < 60
    assert other.client_status("one", "another").state == "absent"


def test_a_stopped_client_is_gone_and_can_run_again(home: Settings, served: LocalTarget) -> None:
    served.run_client("one", "bench", shell("sleep 60"), "benchmark")
    served.stop_client("one", "bench")
    assert [mark for _, mark in marked(home.local) if mark.name == "bench"] == []
    assert served.client_status("one", "bench").state == "absent"
    served.run_client("one", "bench", shell("exit 0"), "benchmark")
    ended(served, "bench")
    assert served.client_status("one", "bench").state == "succeeded"
    served.stop_client("one", "never-there")


def test_a_client_whose_starter_was_killed_before_the_record_does_not_run_twice(
    home: Settings, served: LocalTarget
) -> None:
    served.run_client("one", "bench", shell("sleep 60"), "benchmark")
    (home.local / "one/clients/bench/process.json").unlink()  # what such a death leaves
    served.run_client("one", "bench", shell("sleep 61"), "benchmark")
    assert served.client_status("one", "bench").state == "running"

    def sleeping() -> list[str]:
        return [p.cmdline()[-1] for p, mark in marked(home.local) if mark.name == "bench" and p.name() == "sleep"]

    until(lambda: "61" in sleeping())
    assert sleeping() == ["61"]


def test_a_client_ends_with_its_deployment(home: Settings, served: LocalTarget) -> None:
    served.run_client("one", "bench", shell("sleep 60"), "benchmark")
    served.delete("one")
    assert running(home) == 0


def test_a_client_of_no_deployment_is_not_started(home: Settings, served: LocalTarget) -> None:
    with pytest.raises(TargetError, match="no deployment two"):
        served.run_client("two", "bench", shell("exit 0"), "benchmark")


# ---- what engines and clients may see


def test_neither_engine_nor_client_sees_credentials(
    home: Settings, here: LocalTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = ("AIRFLOW__CORE__FERNET_KEY", "AIRFLOW_CONN_WAREHOUSE", "WIDELOOP_RESULTS_URL", "AWS_SECRET_ACCESS_KEY")
    for name in secrets:
        monkeypatch.setenv(name, "secret-word")
    here.apply(spec("one", model(tmp_path / "m")), OWNER)
    assert settled(here, "one").state == "ready"
    here.run_client("one", "bench", shell("env"), "benchmark")
    ended(here, "bench")
    seen = {
        "engine": (home.local / "one/components/frontend/environment.json").read_text(),
        "client": (home.local / "one/clients/bench/log").read_text(),
    }
    for text in seen.values():
        assert "secret-word" not in text
    assert json.loads(seen["engine"])["OF_THE_ENGINE"] == "yes"
    assert "OF_THE_CLIENT=yes" in seen["client"]
    assert f"PATH={home.environments / 'benchmark' / 'bin'}:" in seen["client"]
