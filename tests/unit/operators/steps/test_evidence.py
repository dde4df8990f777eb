"""What a measurement leaves, with real processes: telemetry of its levels, from an exporter that is a small server."""

from __future__ import annotations

import functools
import http.server
import itertools
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from wideloop.manifests.clients import LOAD_GENERATORS
from wideloop.manifests.engines import ENGINES
from wideloop.manifests.workload import Workload
from wideloop.operators.settings import settings
from wideloop.operators.steps import benchmark, deployment
from wideloop.operators.steps.run import artefacts, open_store
from wideloop.operators.targets import open_target
from wideloop.operators.targets.local.process import end_marked
from wideloop.results.clients import RESULT_READERS

from tests.unit.operators.steps.measured import CYCLE
from tests.unit.operators.steps.test_another_load_generator import (
    NAME,
    ClosedLoop,
    ClosedLoopReader,
    accepts,
    until,
)
from tests.unit.operators.targets import fake_engine

WORKLOAD = Workload(isl=32, osl=64, concurrency=(2,), requests_per_slot=16, client=NAME, client_version="1.2")
SUBJECT = benchmark.Subject(
    run_id="one", target="local", deployment="one", purpose="benchmark", label="by hand", workload=WORKLOAD
)


class MeasuredEngine(fake_engine.FakeEngine):
    """As the fake engine, but its results count as measured."""

    simulated = False


@pytest.fixture
def exporter() -> Iterator[str]:
    """The URL of a DCGM exporter of four GPUs, which draw 200 W each."""
    looks = itertools.count()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            look = next(looks)
            for gpu in range(4):
                labels = f'{{gpu="{gpu}",UUID="GPU-{gpu}",Hostname="here"}}'
                figures = {"POWER_USAGE": 200, "GPU_UTIL": 20 * gpu, "FB_USED": 1024 + look % 7}
                page = "".join(f"DCGM_FI_DEV_{name}{labels} {value}\n" for name, value in figures.items())
                self.wfile.write(page.encode())

        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://{{host}}:{server.server_port}/metrics"
    server.shutdown()


@pytest.fixture
def model(cycle: Path, monkeypatch: pytest.MonkeyPatch, exporter: str) -> Iterator[Path]:
    monkeypatch.setitem(ENGINES.registered, "fake", MeasuredEngine)
    monkeypatch.setitem(LOAD_GENERATORS.registered, NAME, ClosedLoop)
    monkeypatch.setitem(RESULT_READERS.registered, NAME, ClosedLoopReader)
    monkeypatch.setenv("WIDELOOP_TELEMETRY__DCGM", f'["{exporter}"]')
    settings.cache_clear()
    fake_engine.environment(settings())
    fake_engine.environment(settings(), NAME)
    yield fake_engine.model(cycle / "model")
    end_marked(settings().local, grace_s=0)


def measure(model: Path) -> benchmark.Measured:
    open_target("local").apply(fake_engine.spec("one", model), CYCLE.owner)
    until(lambda: deployment.outcome("local", "one"))
    # The fake frontend answers by itself; a real one only through its workers.
    for url in itertools.chain(*open_target("local").endpoints("one").control.values()):
        until(functools.partial(accepts, url))
    benchmark.begin(SUBJECT)
    until(lambda: open_target("local").client_status("one", SUBJECT.client).state != "running")
    return benchmark.finish(SUBJECT, CYCLE)


def test_a_level_has_the_power_of_its_gpus_and_tokens_per_joule(model: Path) -> None:
    (measured,) = measure(model).measurements
    with open_store() as store:
        (stored,) = store.measurements(cycle_id=CYCLE.cycle_id)
    assert stored == measured
    assert stored.telemetry is not None and stored.telemetry.note == ""
    assert stored.gpu_power_w == pytest.approx(800, rel=0.01)
    assert stored.output_tok_per_joule == pytest.approx(stored.output_tok_s / 800, rel=0.01)
    assert stored.telemetry.utilisation == pytest.approx(0.3)
    assert [round(g.utilisation or 0, 2) for g in stored.telemetry.gpus] == [gpu / 5 for gpu in range(4)]
    kept = {uri.rsplit("/one/", 1)[1] for uri in artefacts().list("cycles", CYCLE.cycle_id, "benchmarks", "one")}
    assert "telemetry/samples.jsonl" in kept
