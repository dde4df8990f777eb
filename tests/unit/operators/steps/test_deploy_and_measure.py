"""Apply, wait, benchmark, delete: a script's way through the steps, with real processes on this host.

The load generator is a stand-in that leaves files which aiperf 0.13 once wrote.
"""

from __future__ import annotations

import functools
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from wideloop.manifests.clients.aiperf import Aiperf
from wideloop.manifests.engines import ENGINES
from wideloop.manifests.errors import ClientFailed, DeploymentFailed, Refused, TargetError
from wideloop.manifests.workload import Workload
from wideloop.operators.settings import settings
from wideloop.operators.steps import benchmark, deployment, launch
from wideloop.operators.steps.restart import restart_once
from wideloop.operators.steps.run import artefacts, open_store
from wideloop.operators.targets import open_target
from wideloop.operators.targets.local.process import end_marked, marked

from tests.unit.operators.steps.measured import CYCLE, PARAMS, trial_run
from tests.unit.operators.targets import fake_engine

FILES = Path(__file__).parents[2] / "results" / "data"
TWO_LEVELS = Workload(isl=256, osl=16, concurrency=(4, 8), requests_per_slot=3, warmup_requests=4, seed=3)
SUBJECT = benchmark.Subject(
    run_id="one", target="local", deployment="one", purpose="benchmark", label="by hand", workload=TWO_LEVELS
)


@pytest.fixture
def model(cycle: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A model directory whose fake engine answers; the environments of engine and client are there."""
    monkeypatch.setitem(ENGINES.registered, "fake", fake_engine.FakeEngine)
    fake_engine.environment(settings())
    fake_engine.environment(settings(), "benchmark")
    client('cp "$(dirname "$0")"/../files/* "$(dirname "$3")"')
    shutil.copytree(FILES / "aiperf-two-levels", settings().environments / "benchmark" / "files")
    yield fake_engine.model(cycle / "model")
    end_marked(settings().local, grace_s=0)


def client(script: str) -> None:
    aiperf = settings().environments / "benchmark" / "bin" / "aiperf"
    aiperf.write_text(f"#!/bin/sh\n{script}\n")
    aiperf.chmod(0o755)


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.05)


def ready(model: Path, **changes: Any) -> None:
    deployment.apply(fake_engine.spec("one", model).changed(**changes), CYCLE.owner, Aiperf())
    until(lambda: deployment.outcome("local", "one"))
    # The fake frontend answers by itself; a real one only through its workers.
    for (url,) in open_target("local").endpoints("one").control.values():
        until(functools.partial(accepts, int(url.rpartition(":")[2])))


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def component(name: str) -> Path:
    return settings().local / "one" / "components" / name


def posted(name: str) -> list[str]:
    file = component(name) / "posted"
    return file.read_text().splitlines() if file.exists() else []


def measure(subject: benchmark.Subject = SUBJECT) -> benchmark.Measured:
    benchmark.begin(subject)
    until(lambda: open_target("local").client_status("one", subject.client).state != "running")
    return benchmark.finish(subject, CYCLE)


# ---- deploying


def test_a_deployment_is_awaited_until_it_answers(model: Path) -> None:
    fake_engine.model(model, frontend="refuse")
    deployment.apply(fake_engine.spec("one", model), CYCLE.owner, Aiperf())
    assert deployment.outcome("local", "one") is None
    deployment.delete("local", "one")
    deployment.delete("local", "one")
    fake_engine.model(model)
    ready(model)
    found = deployment.outcome("local", "one")
    assert found is not None and found.state == "ready"


def test_what_the_target_would_choke_on_is_refused_before_anything_starts(model: Path) -> None:
    with pytest.raises(Refused, match="model_path"):
        deployment.apply(fake_engine.spec("one", model / "nowhere"), CYCLE.owner, Aiperf())
    assert open_target("local").list_owned() == []


def test_running_out_of_memory_is_an_outcome_and_any_other_death_an_error(model: Path) -> None:
    fake_engine.model(model, decode_0="out-of-memory")
    deployment.apply(fake_engine.spec("one", model), CYCLE.owner, Aiperf())
    until(lambda: open_target("local").status("one").state == "failed")
    found = deployment.outcome("local", "one")
    assert found is not None and found.state == "infeasible" and found.diagnosis is not None
    fake_engine.model(model, decode_0="die")
    deployment.apply(fake_engine.spec("one", model), CYCLE.owner, Aiperf())
    until(lambda: open_target("local").status("one").state == "failed")
    with pytest.raises(DeploymentFailed, match="lost my peer"):
        deployment.outcome("local", "one")
    deployment.delete("local", "one")
    with pytest.raises(DeploymentFailed, match="no deployment one"):
        deployment.outcome("local", "one")


def test_a_deployment_the_form_names_is_used_as_it_is(model: Path) -> None:
    params = {**PARAMS, "deployment": "somebodys"}
    assert launch.launch(params, CYCLE, "benchmark", "i", "m", record=False, placed=False) == "somebodys"
    assert open_target("local").list_owned() == []


# ---- measuring


def test_every_level_is_stored_with_what_it_was_measured_on(model: Path) -> None:
    ready(model)
    found = measure()
    assert found.outcome == "measured" and [m.concurrency for m in found.measurements] == [4, 8]
    assert found.top.concurrency == 8 and found.top.valid
    spec = fake_engine.spec("one", model)
    with open_store() as store:
        stored = store.measurements(cycle_id=CYCLE.cycle_id)
    assert sorted(stored, key=lambda m: m.concurrency) == list(found.measurements)
    for m in stored:
        assert (m.spec_fingerprint, m.engine, m.simulated) == (spec.fingerprint, "fake", True)
        assert (m.gpus, m.decode_gpus, m.label) == (4, 4, "by hand")
    kept = artefacts().list("cycles", CYCLE.cycle_id, "benchmarks", "one")
    assert any(uri.endswith("profile_export.jsonl") for uri in kept)
    assert all(uri.startswith(found.top.artefact) for uri in kept)
    assert "SIMULATED" in benchmark.summary(found)


def test_every_worker_is_flushed_before_the_client_starts_and_a_retry_disturbs_nothing(model: Path) -> None:
    client("sleep 60")
    ready(model)
    for _ in range(2):
        benchmark.begin(SUBJECT)
    assert posted("decode-0") == ["/flush_cache?timeout=60"]
    assert posted("frontend") == []
    benchmark.stop(SUBJECT)
    assert open_target("local").client_status("one", SUBJECT.client).state == "absent"


def test_recording_starts_after_the_flush(model: Path) -> None:
    ready(model, record_experts="stat")
    benchmark.begin(SUBJECT.model_copy(update={"record": True}))
    assert posted("decode-0") == ["/flush_cache?timeout=60", "/start_expert_distribution_record"]


def test_a_worker_that_does_not_flush_is_not_measured(model: Path) -> None:
    fake_engine.model(model, decode_0="refuse")
    ready(model)
    with pytest.raises(TargetError, match=r"flush_cache.* refused with 503: said so"):
        benchmark.begin(SUBJECT)
    assert open_target("local").client_status("one", SUBJECT.client).state == "absent"


def test_a_client_that_fails_says_why_and_can_be_tried_again(model: Path) -> None:
    ready(model)
    client("echo no such tokenizer >&2; exit 3")
    with pytest.raises(ClientFailed, match="no such tokenizer"):
        measure()
    client('cp "$(dirname "$0")"/../files/* "$(dirname "$3")"')
    assert measure().outcome == "measured"


def test_a_death_of_memory_under_load_is_infeasible_and_ends_the_client(model: Path) -> None:
    client("sleep 60")
    ready(model)
    benchmark.begin(SUBJECT)
    with (component("decode-0") / "log").open("a") as log:
        log.write("RuntimeError: CUDA out of memory\n")
    kill("decode-0")
    found = benchmark.finish(SUBJECT, CYCLE)
    assert found.outcome == "infeasible" and found.diagnosis is not None
    assert "infeasible" in benchmark.summary(found)
    assert not [p for p, mark in marked(settings().local) if "clients" in mark.parts]


def test_another_death_under_load_fails_the_run(model: Path) -> None:
    client("sleep 60")
    ready(model)
    benchmark.begin(SUBJECT)
    kill("decode-0")
    with pytest.raises(DeploymentFailed, match="decode-0"):
        benchmark.finish(SUBJECT, CYCLE)


def test_a_death_between_readiness_and_the_benchmark_is_told_as_what_it_is(model: Path) -> None:
    ready(model)
    with (component("decode-0") / "log").open("a") as log:
        log.write("RuntimeError: CUDA out of memory\n")
    kill("decode-0")
    benchmark.begin(SUBJECT)
    assert benchmark.finish(SUBJECT, CYCLE).outcome == "infeasible"


def kill(name: str) -> None:
    for process, mark in marked(settings().local):
        if mark.name == name:
            os.kill(process.pid, signal.SIGKILL)
    until(lambda: open_target("local").status("one").state == "failed")


def test_another_run_measures_a_deployment_anew_and_a_retry_does_not(model: Path) -> None:
    ready(model)
    first = measure()
    assert measure() == first
    client("exit 9")
    assert measure() == first
    again = SUBJECT.model_copy(update={"run_id": "two"})
    with pytest.raises(ClientFailed):
        measure(again)


def test_a_worker_whose_cache_cannot_hold_one_request_cannot_serve(model: Path) -> None:
    ready(model)
    assert benchmark.cannot_serve(SUBJECT) is None
    huge = TWO_LEVELS.model_copy(update={"isl": 10**9})
    found = benchmark.cannot_serve(SUBJECT.model_copy(update={"workload": huge}))
    assert found is not None and found.kind == "out_of_memory"
    assert found.deficit_gib is not None and found.deficit_gib > 0
    assert str(10**9 + TWO_LEVELS.osl) in found.message


# ---- a second start


def test_a_deployment_that_died_is_started_once_more_and_no_third_time(model: Path) -> None:
    ready(model)
    assert not restart_once("local", "one", CYCLE)
    for started in (True, False):
        kill("decode-0")
        assert restart_once("local", "one", CYCLE) is started
        if started:
            until(lambda: open_target("local").status("one").state == "ready")


def test_what_lies_in_the_configuration_or_belongs_to_another_run_is_not_started_again(model: Path) -> None:
    fake_engine.model(model, decode_0="out-of-memory")
    deployment.apply(fake_engine.spec("one", model), CYCLE.owner, Aiperf())
    until(lambda: open_target("local").status("one").state == "failed")
    assert not restart_once("local", "one", CYCLE)
    deployment.delete("local", "one")
    fake_engine.model(model)
    ready(model)
    kill("decode-0")
    assert not restart_once("local", "one", trial_run("of another owner"))


def test_a_deployment_that_answers_no_more_is_the_cause_of_its_clients_failure(model: Path) -> None:
    ready(model)
    client("exit 1")
    with pytest.raises(ClientFailed):
        measure()
    fake_engine.model(model, frontend="refuse", decode_0="refuse", aggregated_0="refuse")
    with pytest.raises(DeploymentFailed, match=r"timed_out.*answers no more.*503"):
        measure(SUBJECT.model_copy(update={"run_id": "two"}))
