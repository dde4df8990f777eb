"""The gates: conditions on both sides of each figure that make a level a measurement of the deployment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wideloop.manifests.workload import Workload
from wideloop.results.plateau import FULL
from wideloop.results.records import Gate

if TYPE_CHECKING:
    from wideloop.results.benchmark import LevelResult

MAX_ERROR_RATE = 0.01
MIN_EXACT_OSL = 0.99
MIN_PLATEAU = 0.9
MAX_CLIENT_DELAY = 0.1
MAX_ISL_DEVIATION = 0.1
#: SGLang's router passes 1 to 5 % of the answers on at once, those that were decoded before prefill's answer was read.
MAX_UNSTREAMED = 0.1
MAX_IN_FLIGHT = 1.02
MAX_DRIFT = 0.25
MAX_CACHED = 0.05


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
            "above the limit the client, not the engine, holds the load back, or its wall clock was set forward.",
        ),
        *_plausible(level),
    )


def _plausible(level: LevelResult) -> tuple[Gate, ...]:
    """What no load on a healthy deployment shows: then a figure is of something else."""
    first = f" The first: {level.worst_metric_error}." if level.worst_metric_error else ""
    longer = "longer" if level.drift > 0 else "shorter"
    return (
        _at_most("metric_errors", level.metric_errors, 0, f"Answers with missing or impossible metrics.{first}"),
        _at_most(
            "streamed",
            level.unstreamed,
            MAX_UNSTREAMED,
            "Share of the answers whose tokens came faster than any engine makes them: something between engine and "
            "client holds the stream back and hands it on at once, so TTFT and TPOT are not those of the engine.",
        ),
        _at_most(
            "in_flight",
            level.most_in_flight / level.concurrency,
            MAX_IN_FLIGHT,
            f"Most requests in flight at one time, relative to the {level.concurrency} requested; more than that are "
            "of a second client, or of a wall clock that was set back.",
        ),
        _at_most(
            "drift",
            abs(level.drift),
            # Three standard errors: few requests scatter without any drift.
            max(MAX_DRIFT, 3 * level.drift_se),
            f"Requests of the last third took {abs(level.drift):.0%} {longer} than those of the first: the deployment "
            "is not in a steady state.",
        ),
        _at_most(
            "cached",
            level.cached,
            MAX_CACHED,
            "Share of the prompt tokens that the server had in its cache, although each prompt is new.",
        ),
    )


def _at_most(name: str, value: float, limit: float, meaning: str) -> Gate:
    return Gate(name=name, value=value, limit=limit, ok=value <= limit, meaning=meaning)


def _at_least(name: str, value: float, limit: float, meaning: str) -> Gate:
    return Gate(name=name, value=value, limit=limit, ok=value >= limit, meaning=meaning)
