"""The simulated engine as real processes: it answers over HTTP at the pace its model says, and ends as SGLang does."""

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from wideloop.manifests import profiles
from wideloop.manifests.engines import get_engine
from wideloop.manifests.engines.base import Site
from wideloop.operators.settings import Settings
from wideloop.operators.targets.local.ports import free_ports
from wideloop.results import recordings
from wideloop.tuning.simulator.plan import WorkerPlan

from tests.unit.tuning.test_memory import deployment

pytestmark = pytest.mark.e2e

MODEL, HARDWARE = "Qwen3-235B-A22B-FP8", "h100-8"
SIMULATED = get_engine("simulated")
START_S = 60


@pytest.fixture(scope="module")
def python():
    """The interpreter of the engine's environment, as the bootstrap built it."""
    default = Settings().environments / "simulated" / "bin" / "python"
    path = Path(os.environ.get("WIDELOOP_SIMULATED_PYTHON", default))
    if not path.exists():
        pytest.skip(f"the simulated engine's environment is not built: {path}")
    return str(path)


@pytest.fixture(scope="module")
def model_path(python, tmp_path_factory):
    out = tmp_path_factory.mktemp("model") / "m"
    command = SIMULATED.make_model(python, str(profiles.model_config_path(MODEL)), str(out))
    subprocess.run(command.argv, check=True, capture_output=True)
    return str(out)


class Running:
    """A deployment's processes, started without any target."""

    def __init__(self, spec, python, model_path, folder):
        self.spec, self.folder, self.processes, self.urls = spec, folder, {}, {}
        spec_file = folder / "spec.json"
        spec_file.write_text(spec.model_dump_json())
        taken = []
        for component in SIMULATED.components(spec):
            ports = dict(zip(component.ports, free_ports(len(component.ports), taken), strict=True))
            taken += ports.values()
            site = Site(
                python=python, host="127.0.0.1", ports=ports,
                spec_file=str(spec_file), work_dir=str(folder / component.name), shared_dir=str(folder / "shared"),
                model_path=model_path,
            )  # fmt: skip
            command = SIMULATED.command(spec, component, site)
            with (folder / f"{component.name}.log").open("w") as log:
                self.processes[component.name] = subprocess.Popen(
                    command.argv, env={**os.environ, **command.env}, stdout=log, stderr=log, start_new_session=True
                )
            port = site.ports.get("http") or site.ports["control"]
            self.urls[component.name] = f"http://127.0.0.1:{port}"

    def log(self, name):
        return (self.folder / f"{name}.log").read_text().splitlines()

    def wait_ready(self):
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            try:
                self.generate(isl=4, osl=1)
                return
            except OSError:
                time.sleep(0.2)
        raise AssertionError("\n".join(line for name in self.processes for line in self.log(name)))

    def generate(self, isl, osl):
        """(seconds to the first token, seconds per further token) of one streamed answer."""
        body = {"model": self.spec.model.name, "prompt": [300 + i % 999 for i in range(isl)], "max_tokens": osl}
        body |= {"stream": True, "ignore_eos": True}
        request = urllib.request.Request(
            f"{self.urls['frontend']}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        started = time.monotonic()
        with urllib.request.urlopen(request, timeout=30) as response:
            times = [time.monotonic() - started for line in response if line.startswith(b"data: {")]
        return times[0], (times[-1] - times[0]) / max(osl - 1, 1)

    def post(self, name, route):
        try:
            with urllib.request.urlopen(urllib.request.Request(self.urls[name] + route, b""), timeout=30) as response:
                return response.status
        except urllib.error.HTTPError as error:
            return error.code

    def end(self):
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture
def start(python, model_path, tmp_path):
    running = []

    def _start(**decode):
        spec = deployment(MODEL, HARDWARE, **decode).model_copy(update={"record_experts": "stat"})
        running.append(Running(spec, python, model_path, tmp_path))
        return running[-1]

    yield _start
    for each in running:
        each.end()


def test_it_answers_at_the_pace_of_its_model_and_records_what_it_did(start):
    running = start(mem_fraction_static=0.9, cuda_graph_max_bs=16)
    running.wait_ready()
    for worker in ("prefill-0", "decode-0"):
        assert "SIMULATED" in running.log(worker)[0]
        assert running.post(worker, SIMULATED.recorder.start_path) == 200
    first, each = running.generate(isl=2048, osl=33)
    prefill, decode = (WorkerPlan.of(running.spec, role) for role in ("prefill", "decode"))
    assert each * 1000 == pytest.approx(float(decode.timing.decode_ms(1, 2064)), rel=0.25)
    step = float(prefill.timing.prefill_ms(2048))
    # Dynamo's own transport adds about 45 ms to each of the two hops.
    assert step < first * 1000 < step + 400
    assert running.post("decode-0", "/flush_cache?timeout=5") == 200
    for worker, tokens in (("prefill-0", 2048), ("decode-0", 33)):
        assert running.post(worker, SIMULATED.recorder.stop_path) == 200
        assert running.post(worker, SIMULATED.recorder.dump_path) == 200
        (file,) = (running.folder / worker).glob("*.pt")
        assert recordings.read_dumps(file, copies=4).tokens(top_k=8) == pytest.approx(tokens, rel=0.02)


@pytest.mark.parametrize(
    ("decode", "expected"),
    [
        ({"mem_fraction_static": 0.7}, "KV cache"),
        ({"mem_fraction_static": 0.97, "cuda_graph_max_bs": 512}, "CUDA graphs"),
        ({"mem_fraction_static": 0.986, "cuda_graph_max_bs": 16}, "out of GPU memory"),
    ],
)
def test_it_ends_as_sglang_does_and_is_diagnosed(start, decode, expected):
    running = start(**decode)
    code = running.processes["decode-0"].wait(START_S)
    assert code == -signal.SIGKILL
    component = next(c for c in SIMULATED.components(running.spec) if c.name == "decode-0")
    diagnosis = SIMULATED.diagnose(component, running.log("decode-0"), code)
    assert diagnosis.kind == "out_of_memory"
    assert expected in diagnosis.message
