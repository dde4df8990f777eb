"""The load generator's files: what was sent in each phase and what came of every request.

aiperf 0.13 leaves ``phase_manifest.json`` (counts per phase) and ``profile_export.jsonl`` (one line per
request). Both are written for programs; nothing is read from text meant for people.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from wideloop.results.plateau import Floats, Requests

MANIFEST_FILE = "phase_manifest.json"
RECORDS_FILE = "profile_export.jsonl"
LOG_FILE = "logs/aiperf.log"


class UnusableError(Exception):
    """What is wrong with the files, in one sentence."""


@dataclass(frozen=True)
class Phase:
    """What one phase sent.

    Attributes:
        ended: requests that ended, well or not.
        errors: those of them that failed or were cancelled.
        worst_error: the most frequent failure, how often and what it said.
        cancelled: aiperf gave up before the end, after too many errors or at a signal.
        answered: the requests that were answered.
    """

    ended: int
    errors: int
    worst_error: str
    cancelled: bool
    answered: Requests


def read_phases(folder: Path) -> dict[str, Phase]:
    """Every phase in ``folder`` by its name.

    Raises:
        UnusableError: a file is missing, cut short, or not one of aiperf 0.13.
    """
    records = _records(folder)
    phases: dict[str, Phase] = {}
    for name, sent in _manifest(folder, records).items():
        try:
            phases[name] = _phase(sent, records.get(name, []))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UnusableError(f"phase {name} is not one of aiperf 0.13 ({error!r})") from None
        count, ended = int(sent["total_request_count"]), phases[name].ended
        if count != ended:
            raise UnusableError(f"{RECORDS_FILE} has {ended} of the {count} requests of phase {name}")
    return phases


def log_tail(folder: Path, printed: Sequence[str] = ()) -> str:
    """The end of what the client printed and logged, to be appended to a message."""
    lines = list(printed[-10:])
    file = folder / LOG_FILE
    if file.is_file():
        logged = file.read_text(errors="replace").splitlines()
        # Dozens of warnings about empty columns bury the error they follow from.
        lines += [line for line in logged if " - WARNING - " not in line][-10:]
    return "".join(f"\n    | {line[:300]}" for line in lines)


def _manifest(folder: Path, records: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """What was sent by phase. aiperf writes none when every request failed, so ``records`` say why."""
    try:
        phases = json.loads((folder / MANIFEST_FILE).read_text())["phases"]
        return {phase["phase_name"]: phase for phase in phases}
    except FileNotFoundError:
        worst = _worst_error([r for phase in records.values() for r in phase])
        why = f"the requests failed: {worst}" if worst else "the client did not come to its end"
        raise UnusableError(f"{MANIFEST_FILE} is missing: {why}") from None
    except (ValueError, KeyError, TypeError) as error:
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
    except (ValueError, KeyError, TypeError) as error:
        raise UnusableError(f"line {good + 1} of {RECORDS_FILE} is cut short or foreign ({error!r})") from None
    return phases


def _phase(sent: dict[str, Any], records: list[dict[str, Any]]) -> Phase:
    answered = [r for r in records if not _failed(r)]
    return Phase(
        ended=len(records),
        errors=len(records) - len(answered),
        worst_error=_worst_error(records),
        cancelled=bool(sent["was_cancelled"]),
        answered=_requests(answered),
    )


def _requests(records: list[dict[str, Any]]) -> Requests:
    """Answered requests as arrays, times in seconds since the epoch."""

    def time(name: str) -> Floats:
        return np.array([r["metadata"][name] for r in records], dtype=np.float64) / 1e9

    def metric(name: str) -> Floats:
        return np.array([r["metrics"][name]["value"] for r in records], dtype=np.float64)

    start = time("request_start_ns")
    return Requests(
        issued=time("credit_issued_ns"),
        start=start,
        first=start + metric("time_to_first_token") / 1e3,
        end=start + metric("request_latency") / 1e3,
        prompt=metric("usage_prompt_tokens"),
        tokens=metric("usage_completion_tokens"),
    )


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
