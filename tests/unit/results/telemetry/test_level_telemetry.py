"""From samples to the figures of a level."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from wideloop.results.telemetry import Page, Samples, level_telemetry, pages_around, read_pages, read_samples

BEGIN, END = 100.0, 110.0


def readings(gpu: str, *times: float, **figures: Any) -> dict[str, list[dict[str, Any]]]:
    return {gpu: [{"t": t, "gpu": gpu, "host": "node-1", **figures} for t in times]}


def test_power_is_the_sum_of_all_gpus_and_utilisation_their_mean_with_its_scatter() -> None:
    gpus = readings("a", 101, 105, 109, power_w=600, utilisation=0.9) | readings(
        "b", 101, 105, 109, power_w=400, utilisation=0.5
    )
    level = level_telemetry(Samples(gpus, {}), BEGIN, END, gpus=2)
    assert (level.power_w, level.seconds, level.note) == (1000, 10, "")
    assert level.utilisation == pytest.approx(0.7)
    assert level.utilisation_sd == pytest.approx(0.2)
    assert [(g.gpu, g.power_w, g.readings) for g in level.gpus] == [("a", 600, 3), ("b", 400, 3)]


@pytest.mark.parametrize(
    ("counter", "watts"),
    [
        ({101: 1000, 109: 5000}, 500),  # 4 kJ in 8 s
        ({101: 5000, 109: 1000}, 300),  # reset: the mean of the readings
        ({101: 1000, 103: 9000}, 300),  # spans a fifth of the level
        ({101: 1000}, 300),
        ({}, 300),
    ],
)
def test_the_energy_counter_counts_where_it_spans_the_level(counter: dict[int, float], watts: float) -> None:
    (gpu,) = readings("a", 101, 103, 109, power_w=300).values()
    for reading in gpu:
        if int(reading["t"]) in counter:
            reading["energy_j"] = counter[int(reading["t"])]
    assert level_telemetry(Samples({"a": gpu}, {}), BEGIN, END, gpus=1).power_w == watts


@pytest.mark.parametrize(
    ("gpus", "of_the_deployment", "note"),
    [
        (readings("a", 101, 109, power_w=1), 2, "1 of 2 GPUs were read 2 times"),
        (readings("a", 101, power_w=1), 1, "0 of 1 GPUs were read 2 times"),
        (readings("a", 90, 95, 111, 112, power_w=1), 1, "0 of 1 GPUs were read 2 times"),
        (readings("a", 101, 109, power_w=1) | readings("b", 101, 109, power_w=1), 1, "which are its own is not known"),
        (readings("a", 101, 109, utilisation=1), 1, "0 of 1 GPUs tell their power"),
    ],
)
def test_power_that_is_not_known_of_each_gpu_is_unknown_and_says_why(
    gpus: dict[str, Any], of_the_deployment: int, note: str
) -> None:
    level = level_telemetry(Samples(gpus, {}), BEGIN, END, gpus=of_the_deployment)
    assert level.power_w is None and note in level.note


def test_a_source_that_could_not_be_read_is_the_reason() -> None:
    level = level_telemetry(Samples({}, {}, ("nvml: OSError: libnvidia-ml.so.1",)), BEGIN, END, gpus=8)
    assert (level.power_w, level.gpus, level.network) == (None, (), None)
    assert level.note == "nvml: OSError: libnvidia-ml.so.1"


def test_ports_are_counted_from_the_first_to_the_last_reading_of_the_level() -> None:
    def port(name: str, *counters: tuple[float, float, float]) -> dict[str, list[dict[str, Any]]]:
        names = ("t", "received_bytes", "errors")
        return {name: [dict(zip(names, c, strict=True)) | {"host": "n", "port": name} for c in counters]}

    ports = port("1", (50, 0, 0), (101, 1000, 5), (106, 2000, 5), (111, 9000, 9)) | port(
        "2", (101, 0, 0), (109, 800, 2)
    )
    network = level_telemetry(Samples({}, ports), BEGIN, END, gpus=1).network
    assert network is not None
    assert (network.ports, network.received_bytes_s, network.sent_bytes_s, network.errors) == (2, 300, 0, 2)


# ---- files


def test_a_folder_without_samples_is_none(tmp_path: Path) -> None:
    assert read_samples(tmp_path) is None
    assert read_pages(tmp_path) == []


def test_lines_that_are_cut_short_are_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "telemetry"
    folder.mkdir()
    line = json.dumps({"t": 1.0, "gpu": "a", "host": "h", "power_w": 1})
    (folder / "samples.jsonl").write_text(f'{line}\n{{"t": 2.0, "problem": "x: y"}}\n{line[:20]}')
    samples = read_samples(tmp_path)
    assert samples is not None and len(samples.gpus["a"]) == 1 and samples.problems == ("x: y",)
    page = json.dumps({"t": 1.0, "component": "decode-0", "index": 0, "page": "a 1"}) + "\n"
    (folder / "pages.jsonl.gz").write_bytes(gzip.compress(page.encode()) * 2 + gzip.compress(page.encode())[:-9])
    assert [(p.component, p.server, p.text) for p in read_pages(tmp_path)][:2] == [("decode-0", 0, "a 1")] * 2


def test_aiperfs_own_collector_counts_where_the_sampler_read_no_gpu(tmp_path: Path) -> None:
    records = [
        {
            "timestamp_ns": t * 10**9,
            "telemetry_source_url": "http://n:9400/metrics",
            "gpu_index": 0,
            "gpu_uuid": "GPU-a",
            "gpu_model_name": "NVIDIA H200",
            "hostname": "n",
            "telemetry_data": {
                "nvidia_power_usage": 550.0,
                "nvidia_gpu_utilization": 80.0,
                "nvidia_energy_consumption": 0.001 * t,
                "nvidia_memory_used": 2**30 / 1e9,
            },
        }
        for t in (101, 109)
    ]
    (tmp_path / "gpu_telemetry_export.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    samples = read_samples(tmp_path)
    assert samples is not None
    level = level_telemetry(samples, BEGIN, END, gpus=1)
    assert (level.power_w, level.utilisation) == (pytest.approx(1000), pytest.approx(0.8))
    assert level.memory_gib == pytest.approx(1)


def test_pages_around_a_level_are_the_last_before_and_the_first_after_it() -> None:
    pages = [Page(t, "decode-0", 0, f"at {t}") for t in (90.0, 99.0, 104.0, 111.0, 120.0)]
    pages += [Page(101.0, "prefill-0", 1, "late")]
    decode, prefill = pages_around(pages, BEGIN, END)
    assert (decode["component"], decode["before"]["page"], decode["after"]["page"]) == (
        "decode-0",
        "at 99.0",
        "at 111.0",
    )
    assert (prefill["server"], prefill["before"], prefill["after"]) == (1, None, None)
