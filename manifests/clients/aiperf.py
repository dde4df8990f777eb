"""aiperf: a whole curve over concurrency levels by one start.

aiperf 0.13 costs about 3 CPU seconds per start, so a curve is one start: a warm-up phase, then one
profiling phase per level. It reads a configuration and a data set from files, which the command
writes itself before it becomes aiperf; so the same command runs as a child process and in a pod.
"""

from __future__ import annotations

import json
import math
from typing import Any

from wideloop.manifests.clients.base import LoadGenerator
from wideloop.manifests.engines.base import Command
from wideloop.manifests.workload import Workload

WARMUP = "warmup"
_LEVEL = "level"
CONFIG_FILE = "client.json"
REQUESTS_FILE = "requests.jsonl"

ABORT_ERROR_RATE = 0.1
"""aiperf gives up when more than this share of a level's requests failed; a broken deployment costs seconds."""

USERS_PER_WORKER = 64
"""One aiperf worker handles 6,000 to 12,000 streamed tokens/s per core (measured); a user reads at most ~100/s."""

_WRITE_AND_RUN = f"""\
set -e
unset HF_HUB_OFFLINE TRANSFORMERS_OFFLINE
mkdir -p "$1"
yes "$2" | head -n "$3" > "$1/{REQUESTS_FILE}"
printf '%s\\n' "$4" > "$1/{CONFIG_FILE}"
exec aiperf profile -f "$1/{CONFIG_FILE}"
"""
# The command unsets both variables: when either is set, aiperf takes a tokenizer directory for a hub name and fails.


class Aiperf(LoadGenerator):
    """aiperf 0.13 of NVIDIA's AI Dynamo project."""

    name = "aiperf"
    version = "0.13.0"
    environment = "benchmark"
    imports = ("aiperf.cli",)
    #: Suffixes of the files with results; aiperf's other files are its copy of the prompts.
    result_suffixes = (".json", ".jsonl", ".csv", ".log", ".txt", ".yaml")

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
        """As :meth:`LoadGenerator.command`.

        ``cache_dir`` keeps tokenised prompts (default: aiperf's own, under the home directory). The first start fills
        the cache; its key holds lengths, number, seed and tokenizer.
        """
        config = client_config(workload, url=url, model=model, tokenizer_dir=tokenizer_dir, out_dir=out_dir)
        row = json.dumps({"input_length": workload.isl, "output_length": workload.osl})
        rows = workload.requests
        env = {
            # aiperf leaves its copy of the data set in TMPDIR; in out_dir it is removed with the other files.
            "AIPERF_DATASET_MMAP_BASE_PATH": out_dir,
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        if cache_dir is not None:
            env["AIPERF_DATASET_MMAP_CACHE_DIR"] = cache_dir
        return Command(argv=("sh", "-c", _WRITE_AND_RUN, "sh", out_dir, row, str(rows), json.dumps(config)), env=env)

    def keeps(self, file_name: str) -> bool:
        """Keep configuration and records; not the prompts (``inputs.json``), which are larger than all other files."""
        return ".json" in file_name and "inputs" not in file_name


def level_name(index: int) -> str:
    """The phase name of the ``index``-th entry of ``Workload.concurrency`` (levels may repeat)."""
    return f"{_LEVEL}{index}"


def level_index(phase: str) -> int | None:
    """The reverse of :func:`level_name`; None for a phase that is no level, such as the warm-up."""
    number = phase.removeprefix(_LEVEL)
    return int(number) if phase.startswith(_LEVEL) and number.isdigit() else None


def request_timeout_s(workload: Workload) -> float:
    """Seconds after which a request counts as failed: two minutes for the first token, 0.5 s for each further."""
    return 120 + 0.5 * workload.osl


def client_config(workload: Workload, *, url: str, model: str, tokenizer_dir: str, out_dir: str) -> dict[str, Any]:
    """aiperf's configuration (its schema 2.0) for all levels of ``workload``, as plain data.

    Prompts are drawn from aiperf's text corpus with ``workload.seed``; phases take them in order, so no
    prompt is used twice and the warm-up warms no prefix that is measured later.

    Args:
        url, model, tokenizer_dir, out_dir: as in :meth:`LoadGenerator.command`.
    """
    levels = workload.concurrency
    phases = [
        _phase(level_name(i), "profiling", c, c * workload.requests_per_slot)
        | {"failedRequestThreshold": ABORT_ERROR_RATE}
        for i, c in enumerate(levels)
    ]
    if workload.warmup_requests:
        concurrency = min(workload.warmup_requests, max(levels))
        phases.insert(0, _phase(WARMUP, WARMUP, concurrency, workload.warmup_requests))
    benchmark = {
        "model": model,
        "endpoint": {
            "url": url,
            "type": "chat",
            "streaming": True,
            "timeout": request_timeout_s(workload),
            # The server's own count is exact and spares the client tokenising every answer again.
            "useServerTokenCount": True,
            "extra": {"ignore_eos": True},
        },
        "tokenizer": {"name": tokenizer_dir},
        # A trace without timestamps: aiperf keeps the tokenised prompts of a trace in its cache, and not
        # those of a synthetic data set, so only the first start of a sweep pays for them.
        "dataset": {"type": "file", "format": "mooncake_trace", "path": f"{out_dir}/{REQUESTS_FILE}"},
        "phases": phases,
        "artifacts": {"dir": out_dir, "summary": ["json"], "records": ["jsonl"]},
        "gpuTelemetry": {"enabled": False},
        "serverMetrics": {"enabled": False},
        "runtime": {"ui": "none", "workers": math.ceil(max(levels) / USERS_PER_WORKER)},
    }
    return {"schemaVersion": "2.0", "randomSeed": workload.seed, "benchmark": benchmark}


def _phase(name: str, kind: str, concurrency: int, requests: int) -> dict[str, Any]:
    """A closed loop of ``concurrency`` slots.

    aiperf's own closed-loop phase polls for a free slot without pause and burns a core, which on a small
    machine is the engine's. A constant arrival rate capped by the same concurrency waits between polls; the
    rate is far above what the slots can ask for (every request would have to end within 1/8 s to notice).
    """
    rate = max(250, 8 * concurrency)
    return {
        "name": name,
        "kind": kind,
        "type": "constant",
        "rate": rate,
        "concurrency": concurrency,
        "requests": requests,
    }
