"""Sample GPUs, network ports and engines' metrics pages beside a load: one JSON line per reading.

    python3 sampler.py SOURCES_AS_JSON OUT_DIR PID

It runs in the environment or image of a load generator, so it uses the standard library alone. It ends when process
PID, the load generator, has ended. A source that cannot be read is written down once, and asked again.
"""

from __future__ import annotations

import ctypes
import gzip
import json
import os
import re
import socket
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import urlsplit

SAMPLES_FILE = "samples.jsonl"
PAGES_FILE = "pages.jsonl.gz"
#: Seconds between two readings of GPUs and ports, and of engines' pages, whose making costs the engine some 20 ms.
INTERVAL_S = 1.0
PAGES_EVERY_S = 5.0
#: Beyond, pages are no longer kept: some hours of 13 nodes.
MAX_PAGES_BYTES = 64 << 20
#: Each time that the samples have grown by this, the interval doubles: 100 GPUs write 70 MB in an hour of seconds.
_HALVE_EVERY_BYTES = 16 << 20
_TIMEOUT_S = 4.0
_MIB = 1 << 20
_JOULE = 1000.0  # mJ, and mW per W

Reading = dict[str, Any]

#: Series of NVIDIA's DCGM exporter: the field of a reading, and the factor to its unit.
_DCGM = {
    "DCGM_FI_DEV_GPU_UTIL": ("utilisation", 0.01),
    "DCGM_FI_DEV_FB_USED": ("memory_gib", 1 / 1024),
    "DCGM_FI_DEV_POWER_USAGE": ("power_w", 1.0),
    "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": ("energy_j", 1 / _JOULE),
    "DCGM_FI_DEV_SM_CLOCK": ("sm_clock_mhz", 1.0),
    "DCGM_FI_DEV_GPU_TEMP": ("temperature_c", 1.0),
    "DCGM_FI_PROF_SM_ACTIVE": ("sm_active", 1.0),
    "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE": ("tensor_active", 1.0),
}
#: Counters of the node exporter's collector "infiniband". Errors are added up.
_INFINIBAND = {
    "node_infiniband_port_data_received_bytes_total": "received_bytes",
    "node_infiniband_port_data_transmitted_bytes_total": "sent_bytes",
    "node_infiniband_port_errors_received_total": "errors",
    "node_infiniband_symbol_error_total": "errors",
    "node_infiniband_link_downed_total": "link_downed",
}
_SAMPLE = re.compile(r"^(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})?\s+(?P<value>\S+)(?:\s+-?\d+)?$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def page_samples(page: str) -> Iterator[tuple[str, dict[str, str], float]]:
    """Name, labels and value of every sample of a page in Prometheus' text format; NaN and the like are left out."""
    for line in page.splitlines():
        match = None if line.startswith("#") else _SAMPLE.match(line)
        if match is None:
            continue
        try:
            value = float(match["value"])
        except ValueError:
            continue
        if value - value == 0:  # Neither NaN nor an infinity.
            yield match["name"], dict(_LABEL.findall(match["labels"] or "")), value


def dcgm_readings(page: str, host: str, pods: Sequence[str] = (), uuids: Sequence[str] = ()) -> list[Reading]:
    """One reading per GPU of a DCGM exporter's page.

    Args:
        pods: whose GPUs count, where the exporter says which pod has a GPU; where it does not, all count.
        uuids: the GPUs that count; none: all.
    """
    samples = [sample for sample in page_samples(page) if sample[0] in _DCGM]
    if pods and any(labels.get("pod") for _, labels, _ in samples):
        samples = [sample for sample in samples if sample[1].get("pod") in pods]
    gpus: dict[str, Reading] = {}
    for name, labels, value in samples:
        at = labels.get("Hostname") or host
        gpu = labels.get("UUID") or f"{at}/{labels.get('gpu', '?')}"
        field, factor = _DCGM[name]
        gpus.setdefault(gpu, {"gpu": gpu, "host": at})[field] = value * factor
    return [reading for gpu, reading in gpus.items() if not uuids or gpu in uuids]


def infiniband_readings(page: str, host: str) -> list[Reading]:
    """One reading per port of a node exporter's page; counters since the node's start."""
    ports: dict[str, Reading] = {}
    for name, labels, value in page_samples(page):
        if name not in _INFINIBAND:
            continue
        port = f"{labels.get('device', '?')}/{labels.get('port', '?')}"
        reading = ports.setdefault(port, {"port": port, "host": host})
        field = _INFINIBAND[name]
        reading[field] = reading.get(field, 0.0) + value
    return list(ports.values())


def addresses(url: str) -> list[tuple[str, str]]:
    """``url`` once for each address of its host, with that address: a headless Service stands for many exporters."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme != "http":
        return [(url, host)]
    port = parts.port or 80
    ips = {str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    if len(ips) < 2:
        return [(url, host)]
    v4 = sorted(ip for ip in ips if ":" not in ip)
    literal = [(ip, ip) for ip in v4] or [(f"[{ip}]", ip) for ip in sorted(ips)]
    return [(parts._replace(netloc=f"{name}:{port}").geturl(), ip) for name, ip in literal]


def read_page(url: str) -> str:
    """The text at ``url``. Proxies of the environment are not used: exporters are inside the cluster."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=_TIMEOUT_S) as answer:
        return str(answer.read().decode(errors="replace"))


class Exporter:
    """GPUs or ports by the pages of exporters. A reading that equals the last one is old, and is left out."""

    def __init__(self, url: str, readings: Callable[[str, str], list[Reading]]) -> None:
        self.name = url
        self._readings = readings
        self._last: dict[str, Reading] = {}

    def read(self) -> list[Reading]:
        fresh = []
        for url, host in addresses(self.name):
            for reading in self._readings(read_page(url), host):
                key = f"{reading['host']} {reading.get('gpu') or reading.get('port')}"
                if self._last.get(key) != reading:
                    self._last[key] = reading
                    fresh.append(reading)
        return fresh


class _Memory(ctypes.Structure):
    _fields_ = [("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong)]


class _Utilisation(ctypes.Structure):
    _fields_ = [("gpu", ctypes.c_uint), ("memory", ctypes.c_uint)]


class Nvml:
    """This host's GPUs by the driver's library, libnvidia-ml.

    Args:
        uuids: which GPUs, as nvidia-smi prints them.
        library: its file name.
    """

    name = "nvml"

    def __init__(self, uuids: Sequence[str], library: str = "libnvidia-ml.so.1") -> None:
        self._uuids = uuids
        self._library = library
        self._nvml: Any = None
        self._handles: dict[str, ctypes.c_void_p] = {}

    def read(self) -> list[Reading]:
        """Raises OSError without the library, RuntimeError when it fails."""
        if self._nvml is None:
            nvml = ctypes.CDLL(self._library)
            _require(nvml.nvmlInit_v2(), "nvmlInit_v2")
            for uuid in self._uuids:
                handle = ctypes.c_void_p()
                _require(nvml.nvmlDeviceGetHandleByUUID(uuid.encode(), ctypes.byref(handle)), f"handle of {uuid}")
                self._handles[uuid] = handle
            self._nvml = nvml
        return [
            {"gpu": uuid, "host": socket.gethostname(), **self._gpu(handle)} for uuid, handle in self._handles.items()
        ]

    def _gpu(self, handle: ctypes.c_void_p) -> Reading:
        """What this GPU and driver can tell: a figure that is not supported is left out."""
        nvml = self._nvml
        memory, share = _Memory(), _Utilisation()
        power, clock, heat, energy = ctypes.c_uint(), ctypes.c_uint(), ctypes.c_uint(), ctypes.c_ulonglong()
        reading: Reading = {}
        if nvml.nvmlDeviceGetUtilizationRates(handle, ctypes.byref(share)) == 0:
            reading["utilisation"] = share.gpu / 100
        if nvml.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)) == 0:
            reading["memory_gib"] = round(memory.used / _MIB / 1024, 3)
        if nvml.nvmlDeviceGetPowerUsage(handle, ctypes.byref(power)) == 0:
            reading["power_w"] = power.value / _JOULE
        if nvml.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(energy)) == 0:
            reading["energy_j"] = energy.value / _JOULE
        if nvml.nvmlDeviceGetClockInfo(handle, 1, ctypes.byref(clock)) == 0:
            reading["sm_clock_mhz"] = clock.value
        if nvml.nvmlDeviceGetTemperature(handle, 0, ctypes.byref(heat)) == 0:
            reading["temperature_c"] = heat.value
        return reading


def _require(status: int, call: str) -> None:
    if status:
        raise RuntimeError(f"{call} answers {status}")


def sources(plan: Mapping[str, Any]) -> list[Nvml | Exporter]:
    """What ``plan`` (``TelemetrySources`` as JSON) wants sampled."""
    pods, uuids = plan.get("pods") or (), plan.get("gpus") or ()

    def gpus(page: str, host: str) -> list[Reading]:
        return dcgm_readings(page, host, pods, uuids)

    wanted: list[Nvml | Exporter] = [Nvml(uuids)] if plan.get("nvml") else []
    wanted += [Exporter(url, gpus) for url in plan.get("dcgm") or ()]
    return wanted + [Exporter(url, infiniband_readings) for url in plan.get("node_exporter") or ()]


class Sampler:
    """Reads all sources at once, and writes what they say."""

    def __init__(self, plan: Mapping[str, Any], folder: Path) -> None:
        self._sources = sources(plan)
        self._pages = [(name, i, url) for name, urls in (plan.get("pages") or {}).items() for i, url in enumerate(urls)]
        self._folder = folder
        self._pool = ThreadPoolExecutor(min(16, len(self._sources) + len(self._pages)) or 1)
        self._problems: set[str] = set()

    def run(self, wanted: Callable[[], bool]) -> None:
        """Sample while ``wanted``."""
        self._folder.mkdir(parents=True, exist_ok=True)
        next_pages = 0.0
        with (self._folder / SAMPLES_FILE).open("a", buffering=1) as sink:
            while wanted():
                began = time.monotonic()
                if began >= next_pages:
                    next_pages = began + PAGES_EVERY_S
                    self._keep_pages(sink)
                self._sample(sink)
                interval = INTERVAL_S * 2 ** (sink.tell() // _HALVE_EVERY_BYTES)
                self._rest(wanted, began + interval)

    def _rest(self, wanted: Callable[[], bool], until: float) -> None:
        """Sleep, but no longer than a second after the load has ended."""
        time.sleep(0.05)
        while (left := until - time.monotonic()) > 0 and wanted():
            time.sleep(min(left, 1.0))

    def _sample(self, sink: TextIO) -> None:
        results = self._pool.map(lambda source: (source.name, _attempt(source.read)), self._sources)
        for name, result in results:
            if isinstance(result, str):
                self._report(sink, name, result)
                continue
            now = time.time()
            for reading in result:
                print(json.dumps({"t": now, "source": "nvml" if name == "nvml" else "exporter", **reading}), file=sink)

    def _keep_pages(self, sink: TextIO) -> None:
        file = self._folder / PAGES_FILE
        if not self._pages or (file.exists() and file.stat().st_size > MAX_PAGES_BYTES):
            return
        lines = []
        for (name, index, url), page in zip(
            self._pages, self._pool.map(lambda p: _attempt(lambda: [read_page(p[2])]), self._pages), strict=True
        ):
            if isinstance(page, str):
                self._report(sink, url, page)
            else:
                lines.append(json.dumps({"t": time.time(), "component": name, "index": index, "page": page[0]}))
        if lines:
            with file.open("ab") as out:
                out.write(gzip.compress(("\n".join(lines) + "\n").encode(), mtime=0))

    def _report(self, sink: TextIO, source: str, problem: str) -> None:
        if source not in self._problems:
            self._problems.add(source)
            print(json.dumps({"t": time.time(), "problem": f"{source}: {problem}"}), file=sink)


def _attempt(read: Callable[[], list[Any]]) -> list[Any] | str:
    """What ``read`` returns, or why it fails. Whatever it is, the load goes on."""
    try:
        return read()
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def _lives(pid: int) -> bool:
    """Whether a process lives, and is no zombie: a load generator as the first process of a container has no parent."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def main(argv: Sequence[str]) -> None:
    plan, folder, pid = json.loads(argv[0]), Path(argv[1]), int(argv[2])
    os.nice(5)
    Sampler(plan, folder).run(lambda: _lives(pid))


if __name__ == "__main__":
    main(sys.argv[1:])
