"""A load generator that exists only here goes through form, target, benchmark and store as aiperf does."""

from __future__ import annotations

import functools
import itertools
import json
import shutil
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from wideloop.manifests.clients import LOAD_GENERATORS
from wideloop.manifests.clients.aiperf import Aiperf
from wideloop.manifests.clients.base import LoadGenerator
from wideloop.manifests.engines import ENGINES
from wideloop.manifests.engines.base import Command
from wideloop.manifests.errors import ClientFailed, Refused
from wideloop.manifests.kubernetes.image_build import client_image
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.manifests.workload import Workload
from wideloop.operators.request import Request
from wideloop.operators.settings import Settings, settings
from wideloop.operators.steps import benchmark, deployment
from wideloop.operators.steps.run import artefacts, open_store
from wideloop.operators.targets import open_target
from wideloop.operators.targets.local.environment import environment_python
from wideloop.operators.targets.local.process import end_marked
from wideloop.results.benchmark import read_levels
from wideloop.results.clients import RESULT_READERS
from wideloop.results.clients.base import LevelRequests, ResultReader, UnusableError
from wideloop.results.plateau import Requests

from tests.unit.operators.steps import closed_loop
from tests.unit.operators.steps.measured import CYCLE
from tests.unit.operators.targets import fake_engine

NAME = "closed-loop"
FILE = "requests.jsonl"


class ClosedLoop(LoadGenerator):
    name = NAME
    version = "1.2"
    environment = NAME
    imports = ("json",)
    result_suffixes = (".jsonl",)

    def command(
        self,
        workload: Workload,
        *,
        url: str,
        model: str,
        tokenizer_dir: str,
        out_dir: str,
        cache_dir: str | None = None,
    ) -> Command:
        script = str(Path(closed_loop.__file__).resolve())
        return Command(argv=("python", "-I", "-S", script, url, f"{out_dir}/{FILE}", workload.model_dump_json()))


class ClosedLoopReader(ResultReader):
    def read(self, folder: Path) -> dict[int, LevelRequests]:
        try:
            lines = [json.loads(line) for line in (folder / FILE).read_text().splitlines()]
        except (OSError, ValueError) as error:
            raise UnusableError(f"{FILE} cannot be read: {error}") from None
        levels = sorted({line["level"] for line in lines} - {closed_loop.WARM_UP})
        return {level: self._level([line for line in lines if line["level"] == level]) for level in levels}

    def _level(self, lines: list[dict[str, float]]) -> LevelRequests:
        answered = [line for line in lines if "error" not in line]
        errors = Counter(line["error"] for line in lines if "error" in line)
        names = ("issued", "start", "first", "end", "prompt", "tokens")
        return LevelRequests(
            ended=len(lines),
            errors=errors.total(),
            worst_error=" ".join(f"{count} x {text}" for text, count in errors.most_common(1)),
            cancelled=False,
            answered=Requests(*(np.array([line[name] for line in answered], dtype=float) for name in names)),
        )


WORKLOAD = Workload(
    isl=32, osl=8, concurrency=(2, 4), requests_per_slot=4, warmup_requests=1, client=NAME, client_version="1.2"
)
SUBJECT = benchmark.Subject(
    run_id="one", target="local", deployment="one", purpose="benchmark", label="by hand", workload=WORKLOAD
)


@pytest.fixture
def model(cycle: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A model directory whose fake engine answers, and the new load generator with its environment."""
    monkeypatch.setitem(ENGINES.registered, "fake", fake_engine.FakeEngine)
    monkeypatch.setitem(LOAD_GENERATORS.registered, NAME, ClosedLoop)
    monkeypatch.setitem(RESULT_READERS.registered, NAME, ClosedLoopReader)
    fake_engine.environment(settings())
    fake_engine.environment(settings(), NAME)
    yield fake_engine.model(cycle / "model")
    end_marked(settings().local, grace_s=0)


def until(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.05)


def accepts(url: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(url.rpartition(":")[2]))) == 0


def measure(model: Path) -> benchmark.Measured:
    deployment.apply(fake_engine.spec("one", model), CYCLE.owner, ClosedLoop())
    until(lambda: deployment.outcome("local", "one"))
    # The fake frontend answers by itself; a real one only through its workers.
    for url in itertools.chain(*open_target("local").endpoints("one").control.values()):
        until(functools.partial(accepts, url))
    benchmark.begin(SUBJECT)
    until(lambda: open_target("local").client_status("one", SUBJECT.client).state != "running")
    return benchmark.finish(SUBJECT, CYCLE)


def test_its_requests_become_measurements_of_its_own_workload(model: Path) -> None:
    measured = measure(model)
    assert [m.concurrency for m in measured.measurements] == [2, 4]
    assert [m.requests for m in measured.measurements] == [8, 16]
    with open_store() as store:
        stored = store.measurements(cycle_id=CYCLE.cycle_id)
    assert sorted(stored, key=lambda m: m.concurrency) == list(measured.measurements)
    of_aiperf = WORKLOAD.model_copy(update={"client": "aiperf", "client_version": Aiperf.version})
    for m in stored:
        assert m.workload_fingerprint == WORKLOAD.fingerprint != of_aiperf.fingerprint
        assert (m.osl_mean, m.errors) == (8, 0)
        assert 0 < m.ttft_ms_mean < m.request_ms_mean
        assert m.output_tok_s > 0
        assert {g.name: g.ok for g in m.gates}["output_length"]
    kept = artefacts().list("cycles", CYCLE.cycle_id, "benchmarks", "one")
    assert [uri.rsplit("/", 1)[1] for uri in kept] == [FILE]


def test_a_server_that_refuses_everything_is_told_by_its_reader(model: Path) -> None:
    deployment.apply(fake_engine.spec("one", model), CYCLE.owner, ClosedLoop())
    until(lambda: deployment.outcome("local", "one"))
    out = Path(open_target("local").client_dir("one", SUBJECT.client))
    closed_loop.main("http://127.0.0.1:9", str(out / FILE), WORKLOAD.model_dump(mode="json"))
    with pytest.raises(ClientFailed, match=r"none of 8 requests was answered: 8 x .*refused"):
        read_levels(out, WORKLOAD)


def test_the_form_offers_it_and_the_request_carries_its_version(model: Path) -> None:
    from wideloop.operators.airflow import params

    assert params.where()["client"].schema["enum"] == ["aiperf", NAME]
    request = Request.from_params({"client": NAME})
    assert (request.workload.client, request.workload.client_version) == (NAME, "1.2")
    assert isinstance(request.generator, ClosedLoop)
    assert request.workload.fingerprint != Request.from_params({}).workload.fingerprint
    with pytest.raises(Refused, match=r"client = 'closed_loop': is not known. Did you mean 'closed-loop'"):
        Request.from_params({"client": "closed_loop"})


def test_its_environment_is_looked_for_before_anything_starts(model: Path) -> None:
    shutil.rmtree(settings().environments / NAME)
    with pytest.raises(Refused, match=f"client = '{NAME}'.*{NAME}.*has not been built.*WIDELOOP_PYTHONS"):
        deployment.apply(fake_engine.spec("one", model), CYCLE.owner, ClosedLoop())
    assert open_target("local").list_owned() == []


def test_a_host_names_the_interpreter_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "python"
    python.touch()
    monkeypatch.setenv("WIDELOOP_PYTHONS", json.dumps({NAME: str(python)}))
    assert environment_python(Settings(home=tmp_path), NAME) == python


def test_a_cluster_runs_it_in_the_image_that_its_options_name() -> None:
    named = ClusterOptions(client_images={NAME: "r/closed-loop:1"})
    assert client_image(named, NAME) == "r/closed-loop:1"
    assert client_image(named) == client_image(named, Aiperf.environment) == named.client_image
    with pytest.raises(Refused, match="WIDELOOP_CLUSTER__CLIENT_IMAGES"):
        client_image(ClusterOptions(), NAME)
