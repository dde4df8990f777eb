"""What a measurement leaves, with real processes: telemetry of its levels, from an exporter that is a small server."""

from __future__ import annotations

import functools
import gzip
import http.server
import itertools
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from wideloop.manifests.clients import LOAD_GENERATORS
from wideloop.manifests.engines import ENGINES
from wideloop.manifests.engines.metrics import Series
from wideloop.manifests.workload import Workload
from wideloop.operators.settings import settings
from wideloop.operators.steps import benchmark, deployment, evidence
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

#: The warm-up takes some seconds, in which the sampler starts.
WORKLOAD = Workload(
    isl=32, osl=64, concurrency=(2,), requests_per_slot=16, warmup_requests=10, client=NAME, client_version="1.2"
)
SUBJECT = benchmark.Subject(
    run_id="one", target="local", deployment="one", purpose="benchmark", label="by hand", workload=WORKLOAD
)


class MeasuredEngine(fake_engine.FakeEngine):
    """As the fake engine, but its results count as measured."""

    simulated = False
    metrics = {"capture_s": Series("fake:uptime_seconds")}


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


def kept(*folder: str) -> dict[str, str]:
    """URIs by their names below a folder of the cycle."""
    uris = artefacts().list("cycles", CYCLE.cycle_id, *folder)
    return {uri.split(f"{'/'.join(folder)}/", 1)[1]: uri for uri in uris}


def text(uri: str, folder: Path) -> str:
    content = artefacts().get_file(uri, folder / uri.rsplit("/", 1)[1]).read_bytes()
    return gzip.decompress(content).decode() if uri.endswith(".gz") else content.decode()


def test_a_measurement_leaves_what_it_ran_as_and_on(model: Path, tmp_path: Path) -> None:
    measure(model)
    files = kept("deployments", "one")
    metrics = f"metrics/{SUBJECT.client}-level0-c2.json.gz"
    assert set(files) == {"deployment.json", "manifest.yaml", "logs/frontend.log.gz", "logs/decode-0.log.gz", metrics}
    described = artefacts().read_json(files["deployment.json"])
    assert described["fingerprint"] == fake_engine.spec("one", model).fingerprint
    assert (described["image"], described["engine"], described["simulated"]) == ("sha256:0", "fake", False)
    assert [rank["name"] for rank in described["ranks"]] == ["frontend", "decode-0"]
    commands = yaml.safe_load(text(files["manifest.yaml"], tmp_path))
    running = json.loads((settings().local / "one" / "components" / "decode-0" / "environment.json").read_text())
    assert commands["decode-0"]["argv"][-1] == str(model)
    assert commands["decode-0"]["env"].items() <= running.items()


def test_a_level_leaves_the_metrics_pages_from_before_and_after_it(model: Path, tmp_path: Path) -> None:
    (measured,) = measure(model).measurements
    (file,) = kept("deployments", "one", "metrics").values()
    (server,) = json.loads(text(file, tmp_path))
    assert (server["component"], server["server"]) == ("decode-0", 0)
    before, after = server["before"], server["after"]
    assert before["t"] <= measured.started_at.timestamp() < measured.ended_at.timestamp() <= after["t"]
    assert float(before["page"].split()[1]) < float(after["page"].split()[1])


def test_the_logs_of_a_deployment_that_died_are_kept_when_it_is_removed(model: Path, tmp_path: Path) -> None:
    fake_engine.model(model, decode_0="die")
    open_target("local").apply(fake_engine.spec("one", model), CYCLE.owner)
    until(lambda: open_target("local").status("one").state == "failed")
    deployment.delete("local", "one", CYCLE)
    assert open_target("local").list_owned() == []
    assert "lost my peer" in text(kept("deployments", "one")["logs/decode-0.log.gz"], tmp_path)


def test_a_long_log_keeps_its_beginning_and_its_end(model: Path, tmp_path: Path) -> None:
    target = open_target("local")
    target.apply(fake_engine.spec("one", model), CYCLE.owner)
    log = settings().local / "one" / "components" / "decode-0" / "log"
    log.write_text("first line\n" + "x" * 3 * evidence.LOG_BYTES + "\nlast line")
    evidence.keep_deployment("local", "one", CYCLE)
    kept_log = text(kept("deployments", "one")["logs/decode-0.log.gz"], tmp_path)
    assert kept_log.startswith("first line\nxxx") and kept_log.endswith("xxx\nlast line")
    assert f"[... {evidence.LOG_BYTES + 21} bytes left out ...]" in kept_log
    assert len(kept_log) < 2.1 * evidence.LOG_BYTES


def test_what_cannot_be_kept_costs_nothing_but_a_warning(
    model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    open_target("local").apply(fake_engine.spec("one", model), CYCLE.owner)
    monkeypatch.setenv("WIDELOOP_ARTEFACTS_URL", "file:///proc/no-such-place")
    settings.cache_clear()
    deployment.delete("local", "one", CYCLE)
    assert open_target("local").list_owned() == []
    assert "what one leaves could not be kept" in caplog.text


def test_removing_what_was_never_applied_leaves_nothing(model: Path, caplog: pytest.LogCaptureFixture) -> None:
    deployment.delete("local", "one", CYCLE)
    assert kept("deployments") == {} and caplog.text == ""


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
    assert "telemetry/samples.jsonl" in kept("benchmarks", "one")
