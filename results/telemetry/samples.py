"""Reads what the sampler left beside a load generator's files."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from wideloop.manifests.telemetry import FOLDER
from wideloop.manifests.telemetry.sampler import PAGES_FILE, SAMPLES_FILE

_AIPERF_FILE = "gpu_telemetry_export.jsonl"
#: Of aiperf's collector: the field of a reading, and the factor to its unit. Its memory is in GB, its energy in MJ.
_AIPERF = {
    "nvidia_gpu_utilization": ("utilisation", 0.01),
    "nvidia_sm_utilization": ("sm_active", 0.01),
    "nvidia_memory_used": ("memory_gib", 1e9 / 2**30),
    "nvidia_power_usage": ("power_w", 1.0),
    "nvidia_energy_consumption": ("energy_j", 1e6),
    "nvidia_temperature": ("temperature_c", 1.0),
}


class Page(NamedTuple):
    """A metrics page of one server of a component, read at ``t`` (seconds since the epoch)."""

    t: float
    component: str
    server: int
    text: str


class Samples(NamedTuple):
    """Readings in the order of time, by GPU and by port of a host; ``problems``: sources that could not be read."""

    gpus: dict[str, list[dict[str, Any]]]
    ports: dict[str, list[dict[str, Any]]]
    problems: tuple[str, ...] = ()


def read_samples(folder: Path) -> Samples | None:
    """The samples among a load generator's files; None where nothing was sampled.

    The sampler is ended at any moment, so a last line that is cut short is left out. Where it read no GPU and aiperf's
    own collector did, that one's readings count.
    """
    own, of_aiperf = folder / FOLDER / SAMPLES_FILE, folder / _AIPERF_FILE
    if not own.is_file() and not of_aiperf.is_file():
        return None
    samples = Samples({}, {})
    problems = []
    for line in _documents(own):
        if "problem" in line:
            problems.append(str(line["problem"]))
        elif "gpu" in line:
            samples.gpus.setdefault(line["gpu"], []).append(line)
        elif "port" in line:
            samples.ports.setdefault(f"{line['host']} {line['port']}", []).append(line)
    if not samples.gpus:
        for line in map(_of_aiperf, _documents(of_aiperf)):
            samples.gpus.setdefault(line["gpu"], []).append(line)
    return samples._replace(problems=tuple(problems))


def read_pages(folder: Path) -> list[Page]:
    """The engines' metrics pages that were read beside the load, in the order of time."""
    file = folder / FOLDER / PAGES_FILE
    if not file.is_file():
        return []
    documents = _parsed(_unpacked(file).decode(errors="replace"))
    return [Page(d["t"], d["component"], d["index"], d["page"]) for d in documents if "page" in d]


def pages_around(pages: Sequence[Page], begin: float, end: float) -> list[dict[str, Any]]:
    """By server, the last page before ``begin`` and the first after ``end`` (None where there is none)."""
    servers = dict.fromkeys((page.component, page.server) for page in pages)
    around = []
    for component, server in servers:
        own = [page for page in pages if (page.component, page.server) == (component, server)]
        before = max((p for p in own if p.t <= begin), key=lambda p: p.t, default=None)
        after = min((p for p in own if p.t >= end), key=lambda p: p.t, default=None)
        moments = {"before": before, "after": after}
        kept = {name: p and {"t": p.t, "page": p.text} for name, p in moments.items()}
        around.append({"component": component, "server": server, **kept})
    return around


def _of_aiperf(record: dict[str, Any]) -> dict[str, Any]:
    """One record of aiperf 0.13's ``gpu_telemetry_export.jsonl`` as a reading."""
    figures = record.get("telemetry_data") or {}
    reading = {field: figures[name] * factor for name, (field, factor) in _AIPERF.items() if name in figures}
    host = record.get("hostname") or record.get("telemetry_source_url", "")
    return {"t": record["timestamp_ns"] / 1e9, "gpu": record["gpu_uuid"], "host": host, **reading}


def _unpacked(file: Path) -> bytes:
    """The whole file, or what of it can be read: the last part may be cut short."""
    text, packed = b"", file.read_bytes()
    while packed:
        member = zlib.decompressobj(wbits=31)
        try:
            text += member.decompress(packed)
        except zlib.error:
            break
        packed = member.unused_data
    return text


def _documents(file: Path) -> Iterator[dict[str, Any]]:
    return _parsed(file.read_text(errors="replace")) if file.is_file() else iter(())


def _parsed(text: str) -> Iterator[dict[str, Any]]:
    for line in text.splitlines():
        try:
            document = json.loads(line)
        except ValueError:
            continue
        if isinstance(document, dict):
            yield document
