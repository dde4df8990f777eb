"""The load generator's results, level by level.

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
from wideloop.results.clients.base import Defect, LevelRequests, UnusableError
from wideloop.results.gates import gates
from wideloop.results.plateau import (
    Count,
    Floats,
    Plateau,
    Requests,
    drift,
    find_plateau,
    most_in_flight,
    rate,
    standard_error,
)
from wideloop.results.records import LevelFigures

__all__ = ["LevelResult", "gates", "read_levels"]

#: Milliseconds per token below which no engine streams: 10,000 tokens/s for one user.
LEAST_TPOT_MS = 0.1
#: Seconds by which the client's clocks may differ: sent before it was decided to send, last token before the first.
_CLOCK_TOLERANCE = 0.002


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
        metric_errors: answers whose metrics are missing or cannot be; the other figures are without them.
        worst_metric_error: the first of them: metric, value and request.
        unstreamed: share of the answers with several tokens that came faster than any engine makes them.
        most_in_flight: largest number of requests at one time.
        drift: how much longer the last third of the plateau's requests took than the first, as a share;
            ``drift_se`` is its standard error.
        cached: share of the input tokens that the server took from its cache, where it tells.
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
    metric_errors: int = 0
    worst_metric_error: str = ""
    unstreamed: float = 0.0
    most_in_flight: int = 0
    drift: float = 0.0
    drift_se: float = 0.0
    cached: float = 0.0


def read_levels(
    folder: Path, workload: Workload, log: Sequence[str] = (), least_tpot_ms: float = LEAST_TPOT_MS
) -> tuple[LevelResult, ...]:
    """The levels of ``workload`` the client measured into ``folder``, in the workload's order.

    After a level that the client gave up there are no further ones.

    Args:
        log: what the client printed, for the error message.
        least_tpot_ms: time per output token that the deployment cannot go below.

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
            levels.append(_level(requests[index], concurrency, workload, least_tpot_ms))
            if levels[-1].cancelled:
                break
    except UnusableError as problem:
        lines = [*log[-10:], *reader.log_lines(folder)]
        tail = "".join(f"\n    | {line[:300]}" for line in lines)
        raise ClientFailed(f"{workload.client}'s files in {folder} cannot be used: {problem}{tail}") from None
    return tuple(levels)


def _level(sent: LevelRequests, concurrency: int, workload: Workload, least_tpot_ms: float) -> LevelResult:
    expected = concurrency * workload.requests_per_slot
    if sent.ended > expected:
        raise UnusableError(
            f"a level has {sent.ended} requests where this workload has {expected}: the files are of another workload"
        )
    impossible = _impossible(sent)
    defects = [*sent.defects, *impossible.values()]
    usable = sent.answered.only(~np.isin(np.arange(len(sent.answered)), list(impossible)))
    if not len(usable):
        reason = f"{len(defects)} x {defects[0]}" if defects else sent.worst_error or "all are missing"
        what = "has all its metrics" if defects else "was answered"
        raise UnusableError(f"none of {sent.ended} requests {what}: {reason}")
    return LevelResult(
        concurrency=concurrency,
        requests=sent.ended,
        expected=expected,
        errors=sent.errors,
        cancelled=sent.cancelled,
        worst_error=sent.worst_error,
        metric_errors=len(defects),
        worst_metric_error=str(defects[0]) if defects else "",
        cached=sent.cached / float(usable.prompt.sum()),
        **_figures(usable, concurrency, workload.osl, least_tpot_ms),
    )


def _impossible(sent: LevelRequests) -> dict[int, Defect]:
    """What contradicts itself in the metrics of an answer, by its place among the answered."""
    r = sent.answered
    rules = (
        (~np.isfinite(r.start + r.end + r.first + r.issued + r.prompt + r.tokens), "a time or count is no number"),
        (r.first - r.start <= 0, "time_to_first_token is not above 0"),
        (r.first - r.end > _CLOCK_TOLERANCE, "request_latency is below time_to_first_token"),
        (r.prompt < 1, "usage_prompt_tokens is below 1"),
        (r.tokens < 1, "usage_completion_tokens is below 1"),
        (
            r.issued - r.start > _CLOCK_TOLERANCE,
            "it was sent before it was issued: the client's wall clock was set back",
        ),
    )
    defects: dict[int, Defect] = {}
    for broken, problem in rules:
        for index in map(int, np.flatnonzero(broken)):
            name = sent.names[index] if sent.names else f"number {index}"
            defects.setdefault(index, Defect(name, problem))
    return defects


def _figures(requests: Requests, concurrency: int, osl: int, least_tpot_ms: float) -> dict[str, Any]:
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
    change, error = drift(requests.only(full))
    return {
        "output_tok_s": per_second(requests.tokens_until),
        "output_tok_s_se": standard_error(requests.tokens_until, span),
        "input_tok_s": per_second(requests.prompts_until),
        "request_s": per_second(requests.done_until),
        **_summary("ttft_ms", ttft),
        # An answer that came at once says nothing of the time per token; the gate ``streamed`` bounds their share.
        **_summary("tpot_ms", streamed if len(streamed := tpot[tpot >= least_tpot_ms]) else tpot),
        **_summary("request_ms", whole),
        "isl_mean": float(requests.prompt.mean()),
        "osl_mean": float(requests.tokens.mean()),
        "exact_osl": float((requests.tokens == osl).mean()),
        "duration_s": end - begin,
        "plateau_s": plateau.seconds,
        "plateau_at": datetime.fromtimestamp(plateau.begin, UTC) if plateau.seconds > 0 else None,
        "effective_concurrency": per_second(requests.busy_until),
        "client_delay_ms_p99": float(np.percentile((requests.start - requests.issued)[full], 99)) * 1e3,
        "unstreamed": float((tpot < least_tpot_ms).mean()) if len(tpot) else 0.0,
        "most_in_flight": most_in_flight(requests),
        "drift": change,
        "drift_se": error,
        "started_at": datetime.fromtimestamp(begin, UTC),
        "ended_at": datetime.fromtimestamp(end, UTC),
    }


def _summary(name: str, values: Floats) -> dict[str, float]:
    """Mean, median and 99th percentile under ``name``; zero when there is nothing to summarise."""
    p50, p99 = np.percentile(values, [50, 99]) if len(values) else (0.0, 0.0)
    mean = float(values.mean()) if len(values) else 0.0
    return {f"{name}_mean": mean, f"{name}_p50": float(p50), f"{name}_p99": float(p99)}
