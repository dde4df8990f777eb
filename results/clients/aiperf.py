"""aiperf's files: what was sent in each phase and what came of every request.

aiperf 0.13 leaves ``phase_manifest.json`` (counts per phase) and ``profile_export.jsonl`` (one line per
request). Both are written for programs; nothing is read from text meant for people.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from wideloop.manifests.clients.aiperf import level_index
from wideloop.results.clients.base import Defect, LevelRequests, ResultReader, UnusableError
from wideloop.results.plateau import Requests

MANIFEST_FILE = "phase_manifest.json"
RECORDS_FILE = "profile_export.jsonl"
LOG_FILE = "logs/aiperf.log"


#: Times and metrics that every answer has, and the factor from aiperf's unit to seconds or tokens.
_TIMES = {"credit_issued_ns": 1e-9, "request_start_ns": 1e-9}
_METRICS = {
    "time_to_first_token": 1e-3,
    "request_latency": 1e-3,
    "usage_prompt_tokens": 1.0,
    "usage_completion_tokens": 1.0,
}


class AiperfReader(ResultReader):
    """Reads the files of aiperf 0.13."""

    def read(self, folder: Path) -> dict[int, LevelRequests]:
        records = _records(folder)
        phases = {level_index(name): (name, sent) for name, sent in _manifest(folder, records).items()}
        return {
            index: _checked(name, sent, records.get(name, []))
            for index, (name, sent) in phases.items()
            if index is not None  # The warm-up is measured by nobody.
        }

    def log_lines(self, folder: Path) -> list[str]:
        file = folder / LOG_FILE
        if not file.is_file():
            return []
        # Dozens of warnings about empty columns bury the error they follow from.
        lines = file.read_text(errors="replace").splitlines()
        return [line for line in lines if " - WARNING - " not in line][-10:]


def _checked(name: str, sent: dict[str, Any], records: list[dict[str, Any]]) -> LevelRequests:
    """The requests of one phase; as many as the manifest says were sent."""
    try:
        requests, count = _phase(sent, records), int(sent["total_request_count"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnusableError(f"phase {name} is not one of aiperf 0.13 ({error!r})") from None
    if count != requests.ended:
        raise UnusableError(f"{RECORDS_FILE} has {requests.ended} of the {count} requests of phase {name}")
    return requests


def _manifest(folder: Path, records: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """What was sent by phase. aiperf writes none when every request failed, so ``records`` say why."""
    try:
        phases = json.loads((folder / MANIFEST_FILE).read_text())["phases"]
        return {phase["phase_name"]: phase for phase in phases}
    except FileNotFoundError:
        worst = _worst_error([r for phase in records.values() for r in phase])
        why = f"the requests failed: {worst}" if worst else "the client did not come to its end"
        raise UnusableError(f"{MANIFEST_FILE} is missing: {why}") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UnusableError(f"{MANIFEST_FILE} is not a manifest of aiperf 0.13 ({error!r})") from None


def _records(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The request records by phase."""
    phases: dict[str, list[dict[str, Any]]] = {}
    good = 0
    try:
        with (folder / RECORDS_FILE).open(encoding="utf-8") as lines:
            for line in lines:
                record = json.loads(line)
                phases.setdefault(record["metadata"]["phase_name"], []).append(record)
                good += 1
    except FileNotFoundError:
        raise UnusableError(f"{RECORDS_FILE} is missing, so the client did not come to its end") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UnusableError(f"line {good + 1} of {RECORDS_FILE} is cut short or foreign ({error!r})") from None
    return phases


def _phase(sent: dict[str, Any], records: list[dict[str, Any]]) -> LevelRequests:
    answered = [r for r in records if not _failed(r)]
    defects = [_defect(r) for r in answered]
    usable = [r for r, defect in zip(answered, defects, strict=True) if defect is None]
    return LevelRequests(
        ended=len(records),
        errors=len(records) - len(answered),
        worst_error=_worst_error(records),
        cancelled=bool(sent["was_cancelled"]),
        answered=_requests(usable),
        names=tuple(map(_name, usable)),
        defects=tuple(defect for defect in defects if defect is not None),
        cached=sum(_cached(r) for r in usable),
    )


def _defect(record: dict[str, Any]) -> Defect | None:
    """The first time or metric of an answer that is missing or no finite number."""
    for name in (*_TIMES, *_METRICS):
        value = _value(record, name)
        if value is None:
            return Defect(_name(record), f"{name} is missing")
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return Defect(_name(record), f"{name} is {value!r}, no number")
    return None


def _value(record: dict[str, Any], name: str) -> Any:
    if name in _TIMES:
        return record["metadata"].get(name)
    metric = record["metrics"].get(name)
    return metric.get("value") if isinstance(metric, dict) else metric


def _requests(records: list[dict[str, Any]]) -> Requests:
    """Usable answers as arrays, times in seconds since the epoch."""
    issued, start, ttft, latency, prompt, tokens = (
        np.array([_value(r, name) for r in records], dtype=np.float64) * factor
        for name, factor in (_TIMES | _METRICS).items()
    )
    return Requests(issued, start, start + ttft, start + latency, prompt, tokens)


def _cached(record: dict[str, Any]) -> float:
    value = _value(record, "usage_prompt_cache_read_tokens") if "metrics" in record else None
    return float(value) if isinstance(value, int | float) else 0.0


def _name(record: dict[str, Any]) -> str:
    metadata = record["metadata"]
    return str(metadata.get("conversation_id") or metadata.get("x_request_id") or metadata.get("session_num"))


def _failed(record: dict[str, Any]) -> bool:
    return bool(record.get("error") or record["metadata"]["was_cancelled"])


def _worst_error(records: list[dict[str, Any]]) -> str:
    """The most frequent failure among ``records`` and how often it came; empty without any."""
    worst = Counter(_error(r) for r in records if _failed(r)).most_common(1)
    return "".join(f"{count} x {text}" for text, count in worst)


def _error(record: dict[str, Any]) -> str:
    error = record.get("error")
    if not error:
        return "cancelled by the client"
    return f"{error.get('code') or ''} {error.get('type') or ''}: {error.get('message') or ''}".strip()[:300]
