"""The sampler: exporters' pages, the driver's library (a stand-in, compiled here), and the process beside a load."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from wideloop.manifests.engines.base import Command
from wideloop.manifests.telemetry import FOLDER, TelemetrySources, sampler, with_sampler

DCGM = """\
# HELP DCGM_FI_DEV_GPU_UTIL GPU utilization (in %).
# TYPE DCGM_FI_DEV_GPU_UTIL gauge
DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-a",device="nvidia0",modelName="NVIDIA H200",Hostname="node-1",pod="one-0"} 97
DCGM_FI_DEV_GPU_UTIL{gpu="1",UUID="GPU-b",device="nvidia1",modelName="NVIDIA H200",Hostname="node-1",pod="other-0"} 12
DCGM_FI_DEV_GPU_UTIL{gpu="2",UUID="GPU-c",device="nvidia2",modelName="NVIDIA H200",Hostname="node-1"} 0
DCGM_FI_DEV_FB_USED{gpu="0",UUID="GPU-a",Hostname="node-1",pod="one-0"} 131072
DCGM_FI_DEV_POWER_USAGE{gpu="0",UUID="GPU-a",Hostname="node-1",pod="one-0"} 612.5
DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{gpu="0",UUID="GPU-a",Hostname="node-1",pod="one-0"} 5000000
DCGM_FI_PROF_PIPE_TENSOR_ACTIVE{gpu="0",UUID="GPU-a",Hostname="node-1",pod="one-0"} 0.25
DCGM_FI_DEV_XID_ERRORS{gpu="0",UUID="GPU-a",Hostname="node-1",pod="one-0"} NaN
"""
NODE = """\
node_infiniband_port_data_received_bytes_total{device="mlx5_0",port="1"} 4e+09
node_infiniband_port_data_transmitted_bytes_total{device="mlx5_0",port="1"} 5e+09
node_infiniband_port_errors_received_total{device="mlx5_0",port="1"} 2
node_infiniband_symbol_error_total{device="mlx5_0",port="1"} 3
node_infiniband_port_data_received_bytes_total{device="mlx5_1",port="1"} 7
node_load1 0.3
"""


def test_a_gpu_of_a_dcgm_exporter_has_figures_in_our_units() -> None:
    (reading,) = [r for r in sampler.dcgm_readings(DCGM, "10.0.0.1") if r["gpu"] == "GPU-a"]
    assert reading == {
        "gpu": "GPU-a",
        "host": "node-1",
        "utilisation": pytest.approx(0.97),
        "memory_gib": 128,
        "power_w": 612.5,
        "energy_j": 5000,
        "tensor_active": 0.25,
    }


@pytest.mark.parametrize(
    ("pods", "gpus"),
    [
        ((), ["GPU-a", "GPU-b", "GPU-c"]),
        (("one-0",), ["GPU-a"]),
        (("other-0", "one-0"), ["GPU-a", "GPU-b"]),
    ],
)
def test_gpus_that_an_exporter_gives_to_others_or_to_none_are_left_out(pods: tuple[str, ...], gpus: list[str]) -> None:
    assert [r["gpu"] for r in sampler.dcgm_readings(DCGM, "h", pods)] == gpus


def test_all_gpus_count_where_the_exporter_does_not_know_pods() -> None:
    page = DCGM.replace(',pod="one-0"', "").replace(',pod="other-0"', ',pod=""')
    assert [r["gpu"] for r in sampler.dcgm_readings(page, "h", ("one-0",))] == ["GPU-a", "GPU-b", "GPU-c"]


def test_only_the_gpus_that_are_named_count() -> None:
    assert [r["gpu"] for r in sampler.dcgm_readings(DCGM, "h", uuids=("GPU-c", "GPU-b"))] == ["GPU-b", "GPU-c"]


def test_a_page_without_uuids_names_gpus_by_host_and_index() -> None:
    page = 'DCGM_FI_DEV_POWER_USAGE{gpu="3"} 100'
    assert sampler.dcgm_readings(page, "10.0.0.9") == [{"gpu": "10.0.0.9/3", "host": "10.0.0.9", "power_w": 100}]


def test_ports_of_a_node_exporter_are_told_apart_and_their_errors_added_up() -> None:
    first, second = sampler.infiniband_readings(NODE, "10.0.0.1")
    assert first == {
        "port": "mlx5_0/1", "host": "10.0.0.1", "received_bytes": 4e9, "sent_bytes": 5e9, "errors": 5
    }  # fmt: skip
    assert second == {"port": "mlx5_1/1", "host": "10.0.0.1", "received_bytes": 7}


@pytest.mark.parametrize(
    ("line", "samples"),
    [
        ('a{b="x,y=\\"z\\""} 1', [("a", {"b": 'x,y=\\"z\\"'}, 1.0)]),
        ("a 1.5 1730000000000", [("a", {}, 1.5)]),
        ("a NaN", []),
        ("a +Inf", []),
        ("# a 1", []),
        ("<html>", []),
        ("", []),
    ],
)
def test_lines_of_a_page(line: str, samples: list[Any]) -> None:
    assert list(sampler.page_samples(line)) == samples


# ---- exporters over HTTP


@pytest.fixture
def exporter() -> Iterator[tuple[str, dict[str, str]]]:
    """A URL, and the page that it serves under the key ``page``; 500 without one."""
    pages = {"page": DCGM}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if "page" in pages else 500)
            self.end_headers()
            self.wfile.write(pages.get("page", "").encode())

        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/metrics", pages
    server.shutdown()


def test_a_reading_that_the_exporter_has_not_renewed_is_not_taken_twice(exporter: tuple[str, dict[str, str]]) -> None:
    url, pages = exporter
    source = sampler.Exporter(url, sampler.dcgm_readings)
    assert len(source.read()) == 3
    assert source.read() == []
    pages["page"] = DCGM.replace("612.5", "613")
    assert [r["power_w"] for r in source.read()] == [613]


def test_a_name_of_many_addresses_is_one_url_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(*_: object, **__: object) -> list[Any]:
        return [(2, 1, 6, "", (ip, 9400)) for ip in ("10.0.0.2", "10.0.0.1", "10.0.0.2")]

    monkeypatch.setattr(sampler.socket, "getaddrinfo", resolve)
    assert sampler.addresses("http://dcgm.gpu-operator:9400/metrics") == [
        ("http://10.0.0.1:9400/metrics", "10.0.0.1"),
        ("http://10.0.0.2:9400/metrics", "10.0.0.2"),
    ]
    # The certificate is of the name.
    assert sampler.addresses("https://dcgm/metrics") == [("https://dcgm/metrics", "dcgm")]


# ---- NVML

STAND_IN = r"""
#include <string.h>
#include <stdlib.h>
typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned int gpu, memory; } utilisation_t;
static unsigned long long energy = 1000000;
int nvmlInit_v2(void) { return getenv("NVML_BROKEN") ? 9 : 0; }
int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) {
  if (strncmp(uuid, "GPU-", 4)) return 6;
  *device = (void *)(long)(uuid[4]);
  return 0;
}
int nvmlDeviceGetUtilizationRates(void *device, utilisation_t *u) {
  u->gpu = device == (void *)'a' ? 90 : 50;
  return 0;
}
int nvmlDeviceGetMemoryInfo(void *device, memory_t *m) { m->used = 64ull << 30; return 0; }
int nvmlDeviceGetPowerUsage(void *device, unsigned int *mw) { *mw = 700000; return 0; }
int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *mj) {
  if (device == (void *)'o') return 3;
  *mj = energy += 350000;
  return 0;
}
int nvmlDeviceGetClockInfo(void *device, int kind, unsigned int *mhz) { *mhz = 1980; return kind == 1 ? 0 : 2; }
int nvmlDeviceGetTemperature(void *device, int sensor, unsigned int *c) { *c = 61; return sensor == 0 ? 0 : 2; }
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler") if not os.environ.get("CI") else pytest.fail("CI needs a C compiler: gcc")
    folder = tmp_path_factory.mktemp("nvml")
    (folder / "nvml.c").write_text(STAND_IN)
    subprocess.run([str(compiler), "-shared", "-fPIC", "-w", "-o", folder / "nvml.so", folder / "nvml.c"], check=True)
    return str(folder / "nvml.so")


def test_nvml_gives_every_figure_of_a_gpu(library: str) -> None:
    first, second = sampler.Nvml(["GPU-a", "GPU-b"], library).read()
    assert {k: v for k, v in first.items() if k != "host"} == {
        "gpu": "GPU-a",
        "utilisation": 0.9,
        "memory_gib": 64,
        "power_w": 700,
        "energy_j": 1350,
        "sm_clock_mhz": 1980,
        "temperature_c": 61,
    }
    assert (second["gpu"], second["utilisation"], second["energy_j"]) == ("GPU-b", 0.5, 1700)


def test_a_figure_that_a_gpu_does_not_have_is_left_out(library: str) -> None:
    (old,) = sampler.Nvml(["GPU-old"], library).read()
    assert "energy_j" not in old and old["power_w"] == 700


def test_an_unknown_gpu_is_named(library: str) -> None:
    with pytest.raises(RuntimeError, match="handle of MIG-1 answers 6"):
        sampler.Nvml(["MIG-1"], library).read()


# ---- the process beside a load


def run(command: Command, **more: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(command.argv, env={**os.environ, **command.env}, text=True, stdout=subprocess.PIPE, **more)


def until(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.05)


def lines(folder: Path) -> list[dict[str, Any]]:
    file = folder / FOLDER / sampler.SAMPLES_FILE
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def samplers(folder: Path) -> list[int]:
    """Processes whose command line names ``folder``, without this one."""
    pids = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"{folder}/{FOLDER}".encode() in (entry / "cmdline").read_bytes() and int(entry.name) != os.getpid():
                pids.append(int(entry.name))
        except OSError:
            continue
    return pids


def sampled_for(seconds: float, plan: dict[str, Any], folder: Path) -> None:
    end = time.monotonic() + seconds
    sampler.Sampler(plan, folder / FOLDER).run(lambda: time.monotonic() < end)


def load(script: str) -> Command:
    return Command(argv=("sh", "-c", script), env={"OF_THE_CLIENT": "yes"})


def test_a_load_is_sampled_while_it_runs_and_ends_as_without_a_sampler(
    exporter: tuple[str, dict[str, str]], tmp_path: Path
) -> None:
    url, _ = exporter
    sources = TelemetrySources(dcgm=(url,), pods=("one-0",), pages={"decode-0": (url,)})
    until_sampled = f'until [ -s "{tmp_path}/{FOLDER}/{sampler.PAGES_FILE}" ]; do sleep 0.1; done'
    sampled = with_sampler(load(f"{until_sampled}; echo $OF_THE_CLIENT; sleep 1; exit 3"), sources, str(tmp_path))
    process = run(sampled)
    out, _ = process.communicate(timeout=60)
    assert (out, process.returncode) == ("yes\n", 3)
    assert {r["gpu"] for r in lines(tmp_path)} == {"GPU-a"}
    until(lambda: not samplers(tmp_path))


def test_a_signal_reaches_the_load_itself(tmp_path: Path) -> None:
    sources = TelemetrySources(nvml=True, gpus=("GPU-a",))
    process = run(
        with_sampler(load("trap 'echo ended; exit 7' TERM; echo up; sleep 60 & wait"), sources, str(tmp_path))
    )
    assert process.stdout is not None and process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 7
    until(lambda: not samplers(tmp_path))


def test_a_source_that_cannot_be_read_is_told_once_and_the_load_goes_on(
    exporter: tuple[str, dict[str, str]], tmp_path: Path
) -> None:
    url, pages = exporter
    del pages["page"]
    plan = TelemetrySources(dcgm=(url,), node_exporter=("http://127.0.0.1:9/metrics",)).model_dump()
    sampled_for(2.5, plan, tmp_path)
    problems = [line["problem"] for line in lines(tmp_path)]
    assert len(problems) == 2
    assert any("500" in p for p in problems) and any("refused" in p for p in problems)


def test_samples_of_a_long_load_become_rarer(
    exporter: tuple[str, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, _ = exporter
    monkeypatch.setattr(sampler, "INTERVAL_S", 0.05)
    monkeypatch.setattr(sampler, "_HALVE_EVERY_BYTES", 1500)
    monkeypatch.setattr(sampler, "read_page", lambda url: DCGM.replace("612.5", str(time.monotonic())))
    sampled_for(2.0, TelemetrySources(dcgm=(url,), gpus=("GPU-a",)).model_dump(), tmp_path)
    times = [line["t"] for line in lines(tmp_path)]
    # 40 without; each step of 1500 bytes are some 8 readings.
    assert 5 < len(times) < 30
    assert times[-1] - times[-2] > 1.5 * (times[1] - times[0])


def test_a_load_without_sources_is_started_as_it_is(tmp_path: Path) -> None:
    command = load("true")
    assert with_sampler(command, TelemetrySources(), str(tmp_path)) is command
