"""The load generator's results, level by level, and the gates that decide whether they are valid.

Load generators' own summaries average over ramp and drain, so the figures are computed from their request records.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from wideloop.manifests.errors import ClientFailed
from wideloop.manifests.workload import Workload
from wideloop.results.clients import get_result_reader
from wideloop.results.clients.base import LevelRequests, UnusableError
from wideloop.results.plateau import FULL, Count, Floats, Plateau, Requests, find_plateau, rate, standard_error
from wideloop.results.records import Gate, LevelFigures

MAX_ERROR_RATE = 0.01
MIN_EXACT_OSL = 0.99
MIN_PLATEAU = 0.9
MAX_CLIENT_DELAY = 0.1
MAX_ISL_DEVIATION = 0.1


class LevelResult(LevelFigures):
    """One level of concurrency: its figures and what judges them.

    Rates are taken over whole turns in the plateau, latencies over the requests issued in it (they met a full engine);
    a level without a plateau has both over all its requests and fails its gates.

    Attributes:
        requests: how many ended, answered or not; ``expected`` is how many should have.
        cancelled: the client gave up before the end, after too many errors or at a signal.
        worst_error: the most frequent error: its count and its message.
        duration_s: from the first request to the last answer.
        plateau_s: length of the plateau, 0 without one.
        plateau_at: when it began, None without one.
        output_tok_s_se: standard error of ``output_tok_s`` by batch means.
        isl_mean: input tokens of a request, by the server's count.
        exact_osl: share of the answers that have the requested number of tokens.
        effective_concurrency: mean requests in flight over the plateau.
        client_delay_ms_p99: how late the client sent a request it had decided to send.
    """

    expected: int
    cancelled: bool
    worst_error: str = ""
    isl_mean: float
    exact_osl: float
    plateau_s: float
    plateau_at: datetime | None = None
    effective_concurrency: float
    client_delay_ms_p99: float


def read_levels(folder: Path, workload: Workload, log: Sequence[str] = ()) -> tuple[LevelResult, ...]:
    """The levels of ``workload`` the client measured into ``folder``, in the workload's order.

    After a level that the client gave up there are no further ones.

    Args:
        log: what the client printed, for the error message.

    Raises:
        ClientFailed: files are missing, cut short or not of this workload, or no request was answered.
        Refused: no reader is known for the files of ``workload.client``.
    """
    reader = get_result_reader(workload.client)
    levels: list[LevelResult] = []
    try:
        requests = reader.read(folder)
        for index, concurrency in enumerate(workload.concurrency):
            if index not in requests:
                raise UnusableError(f"there is no level {index} ({concurrency} concurrent requests)")
            levels.append(_level(requests[index], concurrency, workload))
            if levels[-1].cancelled:
                break
    except UnusableError as problem:
        lines = [*log[-10:], *reader.log_lines(folder)]
        tail = "".join(f"\n    | {line[:300]}" for line in lines)
        raise ClientFailed(f"{workload.client}'s files in {folder} cannot be used: {problem}{tail}") from None
    return tuple(levels)


def gates(level: LevelResult, workload: Workload) -> tuple[Gate, ...]:
    """The conditions under which ``level`` is a measurement of the deployment; each explains itself."""
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
        _at_most(
            "input_length",
            abs(level.isl_mean / workload.isl - 1),
            MAX_ISL_DEVIATION,
            f"How far the prompts, as the server counted them, are from {workload.isl} tokens; far off when the "
            "client's tokenizer is not the model's.",
        ),
        _at_least(
            "concurrency",
            occupied,
            FULL,
            f"Mean requests in flight over the plateau, relative to the {level.concurrency} requested.",
        ),
        _at_least(
            "plateau",
            level.plateau_s * 1e3 / level.request_ms_mean,
            MIN_PLATEAU,
            "How long the load was full and steady, in mean times of a request; more requests per slot lengthen it.",
        ),
        _at_most(
            "client_delay",
            delay,
            MAX_CLIENT_DELAY,
            "How late the client sent its requests (99th percentile), relative to the mean time of a request; "
            "above the limit the client, not the engine, holds the load back.",
        ),
    )


def _level(sent: LevelRequests, concurrency: int, workload: Workload) -> LevelResult:
    expected = concurrency * workload.requests_per_slot
    if sent.ended > expected:
        raise UnusableError(
            f"a level has {sent.ended} requests where this workload has {expected}: the files are of another workload"
        )
    if not len(sent.answered):
        raise UnusableError(f"none of {sent.ended} requests was answered: {sent.worst_error or 'all are missing'}")
    return LevelResult(
        concurrency=concurrency,
        requests=sent.ended,
        expected=expected,
        errors=sent.errors,
        cancelled=sent.cancelled,
        worst_error=sent.worst_error,
        **_figures(sent.answered, concurrency, workload.osl),
    )


def _figures(requests: Requests, concurrency: int, osl: int) -> dict[str, Any]:
    begin, end = float(requests.start.min()), float(requests.end.max())
    plateau = find_plateau(requests, concurrency)
    full = plateau.holds(requests.start) if plateau.seconds > 0 else np.full(len(requests), True)
    span = plateau if plateau.seconds > 0 else Plateau(begin, end)

    def per_second(count: Count) -> float:
        return rate(count, requests, span, concurrency if plateau.seconds > 0 else len(requests))

    ttft = (requests.first - requests.start)[full] * 1e3
    whole = (requests.end - requests.start)[full] * 1e3
    # Time per output token after the first; an answer of one token has none.
    several = full & (requests.tokens > 1)
    tpot = ((requests.end - requests.first)[several] / (requests.tokens[several] - 1)) * 1e3
    return {
        "output_tok_s": per_second(requests.tokens_until),
        "output_tok_s_se": standard_error(requests.tokens_until, span),
        "input_tok_s": per_second(requests.prompts_until),
        "request_s": per_second(requests.done_until),
        **_summary("ttft_ms", ttft),
        **_summary("tpot_ms", tpot),
        **_summary("request_ms", whole),
        "isl_mean": float(requests.prompt.mean()),
        "osl_mean": float(requests.tokens.mean()),
        "exact_osl": float((requests.tokens == osl).mean()),
        "duration_s": end - begin,
        "plateau_s": plateau.seconds,
        "plateau_at": datetime.fromtimestamp(plateau.begin, UTC) if plateau.seconds > 0 else None,
        "effective_concurrency": per_second(requests.busy_until),
        "client_delay_ms_p99": float(np.percentile((requests.start - requests.issued)[full], 99)) * 1e3,
        "started_at": datetime.fromtimestamp(begin, UTC),
        "ended_at": datetime.fromtimestamp(end, UTC),
    }


def _summary(name: str, values: Floats) -> dict[str, float]:
    """Mean, median and 99th percentile under ``name``; zero when there is nothing to summarise."""
    p50, p99 = np.percentile(values, [50, 99]) if len(values) else (0.0, 0.0)
    mean = float(values.mean()) if len(values) else 0.0
    return {f"{name}_mean": mean, f"{name}_p50": float(p50), f"{name}_p99": float(p99)}


def _at_most(name: str, value: float, limit: float, meaning: str) -> Gate:
    return Gate(name=name, value=value, limit=limit, ok=value <= limit, meaning=meaning)


def _at_least(name: str, value: float, limit: float, meaning: str) -> Gate:
    return Gate(name=name, value=value, limit=limit, ok=value >= limit, meaning=meaning)
