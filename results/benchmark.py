"""What the load generator measured, read from its files, and whether it can be believed.

aiperf 0.13 leaves ``phase_manifest.json`` (what was sent, per phase) and ``profile_export.jsonl`` (one
line per request). Its own summaries average over ramp and drain, so the figures here are computed from
the lines. Nothing is read from text meant for people.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from manifests.benchmark import level_name
from manifests.errors import ClientFailed
from manifests.workload import Workload
from results.plateau import FULL, Plateau, Requests, bounds, find_plateau, rate
from results.records import Gate

MANIFEST_FILE = "phase_manifest.json"
RECORDS_FILE = "profile_export.jsonl"
LOG_FILE = "logs/aiperf.log"

MAX_ERROR_RATE = 0.01
MIN_EXACT_OSL = 0.99
MAX_CLIENT_DELAY = 0.05


class LevelResult(BaseModel):
    """One level of concurrency: the figures of :class:`results.records.Measurement` and what judges them.

    Rates are per second over the plateau, latencies in milliseconds over the requests issued in it (they
    met a full engine); a level without a plateau has both over all its requests and fails its gates.

    Attributes:
        requests: how many ended, well or not; ``expected`` is how many should have.
        cancelled: aiperf gave up before the end, after too many errors or at a signal.
        worst_error: the most frequent error, how often and what it said.
        duration_s: from the first request to the last answer.
        plateau_s: length of the plateau; ``plateau_requests`` ended in it.
        output_tok_s_se: standard error of ``output_tok_s`` by batch means.
        exact_osl: share of the answers that have the asked number of tokens.
        effective_concurrency: mean requests in flight over the plateau.
        client_delay_ms_p99: how late the client sent a request it had decided to send.
    """

    model_config = ConfigDict(frozen=True)

    concurrency: int
    requests: int
    expected: int
    errors: int
    cancelled: bool
    worst_error: str = ""
    output_tok_s: float
    output_tok_s_se: float | None
    input_tok_s: float
    request_s: float
    ttft_ms_mean: float
    ttft_ms_p50: float
    ttft_ms_p99: float
    tpot_ms_mean: float
    tpot_ms_p50: float
    tpot_ms_p99: float
    request_ms_mean: float
    request_ms_p99: float
    osl_mean: float
    exact_osl: float
    duration_s: float
    plateau_s: float
    plateau_requests: int
    effective_concurrency: float
    client_delay_ms_p99: float
    started_at: datetime
    ended_at: datetime


def read_levels(folder: Path, workload: Workload, log: Sequence[str] = ()) -> tuple[LevelResult, ...]:
    """The levels of ``workload`` the client measured into ``folder``, in the workload's order.

    After a level that aiperf gave up there are no further ones.

    Args:
        log: what the client printed, for the error message.

    Raises:
        ClientFailed: files are missing, cut short or not of this workload, or no request was answered.
    """
    try:
        phases = _manifest(folder)
        records = _records(folder)
        levels: list[LevelResult] = []
        for index, concurrency in enumerate(workload.concurrency):
            name = level_name(index)
            if name not in phases:
                raise _Unusable(f"{MANIFEST_FILE} has no phase {name} ({concurrency} concurrent requests)")
            levels.append(_level(name, phases[name], records.get(name, []), concurrency, workload))
            if levels[-1].cancelled:
                break
    except _Unusable as problem:
        raise ClientFailed(
            f"the load generator's files in {folder} are no use: {problem}{_tail(folder, log)}"
        ) from None
    return tuple(levels)


def gates(level: LevelResult, workload: Workload) -> tuple[Gate, ...]:
    """The conditions under which ``level`` is a measurement of the deployment; each says what it means."""
    error_rate = level.errors / level.requests
    delay = level.client_delay_ms_p99 / level.request_ms_mean
    occupied = level.effective_concurrency / level.concurrency
    often = f" Most frequent: {level.worst_error}." if level.worst_error else ""
    return (
        _at_most("errors", error_rate, MAX_ERROR_RATE, f"Share of the requests that failed.{often}"),
        _at_least(
            "complete",
            0.0 if level.cancelled else level.requests / level.expected,
            1.0,
            "Share of the planned requests that were sent and ended; 0 when the client gave up.",
        ),
        _at_least(
            "output_length",
            level.exact_osl,
            MIN_EXACT_OSL,
            f"Share of the answers with exactly {workload.osl} tokens; shorter ones would make the engine look faster.",
        ),
        _at_least(
            "concurrency",
            occupied,
            FULL,
            f"Mean requests in flight over the plateau, relative to the {level.concurrency} asked for.",
        ),
        _at_least(
            "plateau",
            float(level.plateau_requests),
            float(level.concurrency),
            "Requests that ended while the load was full; with fewer than one per slot it was never steady.",
        ),
        _at_most(
            "client_delay",
            delay,
            MAX_CLIENT_DELAY,
            "How late the client sent its requests (99th percentile), relative to the mean time of a request; "
            "above the limit the client, not the engine, is the bottleneck.",
        ),
    )


class _Unusable(Exception):
    """What is wrong with the files, in one sentence."""


def _manifest(folder: Path) -> dict[str, dict[str, Any]]:
    """The phases of the manifest by name."""
    try:
        phases = json.loads((folder / MANIFEST_FILE).read_text())["phases"]
        return {phase["phase_name"]: phase for phase in phases}
    except FileNotFoundError:
        raise _Unusable(f"{MANIFEST_FILE} is missing, so the client did not come to its end") from None
    except (ValueError, KeyError, TypeError) as error:
        raise _Unusable(f"{MANIFEST_FILE} is not a manifest of aiperf 0.13 ({error!r})") from None


def _records(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The request records by phase."""
    phases: dict[str, list[dict[str, Any]]] = {}
    number = 0
    try:
        with (folder / RECORDS_FILE).open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                record = json.loads(line)
                phases.setdefault(record["metadata"]["phase_name"], []).append(record)
    except FileNotFoundError:
        raise _Unusable(f"{RECORDS_FILE} is missing") from None
    except (ValueError, KeyError, TypeError) as error:
        raise _Unusable(f"line {number + 1} of {RECORDS_FILE} is cut short or foreign ({error!r})") from None
    return phases


def _level(
    name: str, phase: dict[str, Any], records: list[dict[str, Any]], concurrency: int, workload: Workload
) -> LevelResult:
    expected = concurrency * workload.requests_per_slot
    try:
        counted, cancelled = int(phase["total_request_count"]), bool(phase["was_cancelled"])
        if counted != len(records):
            raise _Unusable(f"{RECORDS_FILE} has {len(records)} of the {counted} requests of {name}")
        if counted > expected:
            raise _Unusable(f"{name} has {counted} requests, this workload has {expected}: it is of another one")
        failed = [_error(r) for r in records if r.get("error") or r["metadata"]["was_cancelled"]]
        answered = _arrays([r for r in records if not (r.get("error") or r["metadata"]["was_cancelled"])])
    except (KeyError, TypeError, ValueError) as error:
        raise _Unusable(f"a record of {name} is not of aiperf 0.13 ({error!r})") from None
    worst = "; ".join(f"{n} x {text}" for text, n in Counter(failed).most_common(1))
    if not len(answered):
        raise _Unusable(f"no request of {name} was answered: {worst or 'none was sent'}")
    facts = {"expected": expected, "errors": len(failed), "worst_error": worst, "cancelled": cancelled}
    return LevelResult(
        concurrency=concurrency, requests=len(records), **facts, **_figures(answered, concurrency, workload.osl)
    )


def _arrays(records: list[dict[str, Any]]) -> Requests:
    """Successful records as arrays, in seconds since the epoch."""

    def metric(record: dict[str, Any], name: str) -> float:
        return float(record["metrics"][name]["value"])

    def column(values: list[float]) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.array(values, dtype=np.float64)

    start = column([r["metadata"]["request_start_ns"] / 1e9 for r in records])
    return Requests(
        issued=column([r["metadata"]["credit_issued_ns"] / 1e9 for r in records]),
        start=start,
        first=start + column([metric(r, "time_to_first_token") / 1e3 for r in records]),
        end=start + column([metric(r, "request_latency") / 1e3 for r in records]),
        prompt=column([metric(r, "usage_prompt_tokens") for r in records]),
        tokens=column([metric(r, "usage_completion_tokens") for r in records]),
    )


def _figures(all_: Requests, concurrency: int, osl: int) -> dict[str, Any]:
    begin, end = float(all_.start.min()), float(all_.end.max())
    plateau = find_plateau(all_, concurrency)
    full = plateau.holds(all_.start) if plateau.seconds > 0 else np.full(len(all_), True)
    span = plateau if plateau.seconds > 0 else Plateau(begin, end)
    at = bounds(span)
    output, error = rate(all_.tokens_until(at), span.seconds)
    ttft = (all_.first - all_.start)[full] * 1e3
    whole = (all_.end - all_.start)[full] * 1e3
    # Time per output token after the first; an answer of one token has none.
    several = full & (all_.tokens > 1)
    tpot = ((all_.end - all_.first)[several] / (all_.tokens[several] - 1)) * 1e3
    return {
        "output_tok_s": output,
        "output_tok_s_se": error,
        "input_tok_s": rate(all_.prompts_until(at), span.seconds)[0],
        "request_s": rate(all_.done_until(at), span.seconds)[0],
        **_summary("ttft_ms", ttft),
        **_summary("tpot_ms", tpot),
        **_summary("request_ms", whole),
        "osl_mean": float(all_.tokens.mean()),
        "exact_osl": float((all_.tokens == osl).mean()),
        "duration_s": end - begin,
        "plateau_s": plateau.seconds,
        "plateau_requests": int(plateau.holds(all_.end).sum()) if plateau.seconds > 0 else 0,
        "effective_concurrency": rate(all_.busy_until(at), span.seconds)[0],
        "client_delay_ms_p99": float(np.percentile((all_.start - all_.issued)[full], 99)) * 1e3,
        "started_at": datetime.fromtimestamp(begin, UTC),
        "ended_at": datetime.fromtimestamp(end, UTC),
    }


def _summary(name: str, values: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, float]:
    """Mean, median and 99th percentile under ``name``; zero when there is nothing to summarise."""
    p50, p99 = np.percentile(values, [50, 99]) if len(values) else (0.0, 0.0)
    mean = float(values.mean()) if len(values) else 0.0
    return {f"{name}_mean": mean, f"{name}_p50": float(p50), f"{name}_p99": float(p99)}


def _error(record: dict[str, Any]) -> str:
    error = record.get("error")
    if not error:
        return "cancelled by the client"
    return f"{error.get('code') or ''} {error.get('type') or ''}: {error.get('message') or ''}".strip()[:300]


def _tail(folder: Path, log: Sequence[str]) -> str:
    """The end of what the client printed and logged, for a message."""
    lines = list(log[-10:])
    file = folder / LOG_FILE
    if file.is_file():
        lines += file.read_text(errors="replace").splitlines()[-10:]
    return "".join(f"\n    | {line[:300]}" for line in lines)


def _at_most(name: str, value: float, limit: float, meaning: str) -> Gate:
    return Gate(name=name, value=value, limit=limit, ok=value <= limit, meaning=meaning)


def _at_least(name: str, value: float, limit: float, meaning: str) -> Gate:
    return Gate(name=name, value=value, limit=limit, ok=value >= limit, meaning=meaning)
