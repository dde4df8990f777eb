"""The plateau of a closed-loop load: the time in which the requested concurrency was in flight.

Throughput as total over duration counts the ramp and the drain, in which the engine is not full, and is
wrong by an amount that depends on how many requests were sent. So rates are taken over the plateau only.
It begins when at least 95 % of the requested concurrency is in flight and the first request has ended: all slots
start at once, and while the engine prefills that burst of prompts it decodes hardly anything (measured with Dynamo
mockers, 3 requests per slot: with the burst 10 % too little throughput and five times the p99 TTFT, without it
within 2 % of a long run). It ends when the last request is issued, after which the load drains.

Equally long requests that start together run in waves: all prompts, then all tokens. A plateau whose length is not
a whole number of waves counts one part of a wave too often. Every slot sends its next request when its last one has
ended, so from one issue to the issue that follows it by as many as there are slots (a turn) every slot has sent
once, which is one wave. Rates are taken over whole turns, wherever in the plateau they begin. With a simulated
engine that prefills first, steps that vary by 30 % and three waves of 384, the mean over whole turns is within 0.2 %
of a long run, and the mean over the whole plateau 3.2 % below it, with the same scatter; where lengths vary by 20 %,
whole turns are 1.0 % off, the whole plateau 2.4 %, and the whole load with its drain 13 %.

Progress inside a request is linear: its prompt is read between its start and its first token, its further
tokens come evenly from the first to the last.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

FULL = 0.95
"""In-flight requests over requested concurrency from which a level counts as loaded."""

BATCHES = 10
"""Slices of the plateau for the standard error (non-overlapping batch means)."""

WINDOWS = 64
"""Limit of the stretches of whole turns that a rate averages over; each needs memory in proportion to the requests."""

Floats = NDArray[np.float64]
Count = Callable[[Floats], Floats]
"""A cumulative count at each of the given times, such as :meth:`Requests.tokens_until`."""


@dataclass(frozen=True)
class Requests:
    """The answered requests of one level as arrays of shape ``(n,)``; times in seconds on one clock.

    Attributes:
        issued: when the client decided to send it.
        start: when it was sent.
        first: when its first token came.
        end: when its last token came.
        prompt, tokens: input and output tokens, by the server's count.
    """

    issued: Floats
    start: Floats
    first: Floats
    end: Floats
    prompt: Floats
    tokens: Floats

    def __len__(self) -> int:
        return len(self.start)

    def only(self, mask: NDArray[np.bool_]) -> Requests:
        """Those that ``mask``, shape ``(n,)``, selects."""
        return Requests(*(getattr(self, field.name)[mask] for field in fields(self)))

    def tokens_until(self, at: Floats) -> Floats:
        """Output tokens of all requests that had arrived by each of the times ``at``, shape of ``at``."""
        arrived = (at[:, None] >= self.first).astype(np.float64)
        further = _share(self.first, self.end, at) * np.maximum(self.tokens - 1, 0)
        return np.asarray((arrived * np.minimum(self.tokens, 1) + further).sum(axis=1))

    def prompts_until(self, at: Floats) -> Floats:
        """Input tokens of all requests that had been prefilled by each of the times ``at``, shape of ``at``."""
        return np.asarray((_share(self.start, self.first, at) * self.prompt).sum(axis=1))

    def done_until(self, at: Floats) -> Floats:
        """Requests, whole and in parts, that had been served by each of the times ``at``, shape of ``at``."""
        return np.asarray(_share(self.start, self.end, at).sum(axis=1))

    def busy_until(self, at: Floats) -> Floats:
        """Request-seconds in flight by each of the times ``at``, shape of ``at``."""
        return np.asarray((_share(self.start, self.end, at) * (self.end - self.start)).sum(axis=1))


@dataclass(frozen=True)
class Plateau:
    """Seconds on the requests' clock; empty (``seconds == 0``) when the requested load was never reached."""

    begin: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.begin

    def holds(self, times: Floats) -> NDArray[np.bool_]:
        """Which of ``times`` lie in the plateau, its bounds included."""
        return (times >= self.begin) & (times <= self.end)


def find_plateau(requests: Requests, concurrency: int) -> Plateau:
    """The plateau of ``requests`` sent by ``concurrency`` slots.

    >>> at = lambda *times: np.array(times, dtype=float)
    >>> loop = Requests(at(0, 1, 4, 5), at(0, 1, 4, 5), at(1, 2, 5, 6), at(4, 5, 8, 9), at(9, 9, 9, 9), at(3, 3, 3, 3))
    >>> find_plateau(loop, 2)
    Plateau(begin=4.0, end=5.0)
    """
    if not len(requests):
        return Plateau(0.0, 0.0)
    times = np.concatenate([requests.start, requests.end])
    steps = np.concatenate([np.ones(len(requests)), -np.ones(len(requests))])
    order = np.lexsort((-steps, times))  # of simultaneous events the starts come first
    in_flight = np.cumsum(steps[order])
    last = float(requests.start.max())
    full = np.flatnonzero(in_flight >= FULL * concurrency)
    begin = max(float(times[order][full[0]]), float(requests.end.min())) if len(full) else last
    return Plateau(min(begin, last), last)


def most_in_flight(requests: Requests) -> int:
    """The largest number of requests that were in flight at one time; one that ends frees its slot at once.

    >>> at = lambda *times: np.array(times, dtype=float)
    >>> most_in_flight(Requests(at(0, 1, 2), at(0, 1, 2), at(1, 2, 3), at(2, 3, 4), at(9, 9, 9), at(3, 3, 3)))
    2
    """
    times = np.concatenate([requests.start, requests.end])
    steps = np.concatenate([np.ones(len(requests)), -np.ones(len(requests))])
    return int(np.cumsum(steps[np.lexsort((steps, times))]).max(initial=0))


def drift(requests: Requests) -> tuple[float, float]:
    """How much longer requests of the last third took than those of the first, as a share, and its standard error.

    Thirds are by the time of sending; two requests at least in each, else no drift can be told.
    """
    whole = (requests.end - requests.start)[np.argsort(requests.start, kind="stable")]
    count = len(whole) // 3
    if count < 2 or whole[:count].mean() <= 0:
        return 0.0, 0.0
    first, last = whole[:count], whole[-count:]
    error = np.sqrt((first.var(ddof=1) + last.var(ddof=1)) / count) / first.mean()
    return float(last.mean() / first.mean() - 1), float(error)


def rate(count: Count, requests: Requests, plateau: Plateau, concurrency: int) -> float:
    """Rate per second over whole turns of ``concurrency`` slots; over all of a plateau that is shorter than one turn.

    >>> at = lambda *times: np.array(times, dtype=float)
    >>> loop = Requests(at(0, 2, 4, 6), at(0, 2, 4, 6), at(1, 3, 5, 7), at(2, 4, 6, 8), at(9, 9, 9, 9), at(3, 3, 3, 3))
    >>> rate(loop.tokens_until, loop, find_plateau(loop, 1), 1)
    1.5
    """
    if plateau.seconds <= 0:
        return 0.0
    begins, ends = _turns(requests, plateau, concurrency)
    return float((count(ends) - count(begins)).sum() / (ends - begins).sum())


def standard_error(count: Count, plateau: Plateau) -> float | None:
    """Standard error of a rate per second, by batch means; None for a plateau without extent.

    Requests of one run follow each other's rhythm, so slices of the plateau, not the requests, are the sample.
    """
    if plateau.seconds <= 0:
        return None
    slices = np.diff(count(np.linspace(plateau.begin, plateau.end, BATCHES + 1))) / (plateau.seconds / BATCHES)
    return float(slices.std(ddof=1) / np.sqrt(BATCHES))


def _turns(requests: Requests, plateau: Plateau, concurrency: int) -> tuple[Floats, Floats]:
    """Begins and ends of stretches of as many whole turns as the plateau holds, evenly spread over it."""
    issues = np.sort(requests.start[plateau.holds(requests.start)])
    length = (len(issues) - 1) // concurrency * concurrency
    begins, ends = issues[: len(issues) - length], issues[length:]
    if length == 0 or ends[0] <= begins[0]:
        return np.array([plateau.begin]), np.array([plateau.end])
    some = np.linspace(0, len(begins) - 1, min(len(begins), WINDOWS)).astype(int)
    return begins[some], ends[some]


def _share(begin: Floats, end: Floats, at: Floats) -> Floats:
    """How much of each interval has passed at each time, 0 to 1, shape ``(len(at), len(begin))``.

    An interval of length 0 has passed entirely from its begin on.
    """
    length = end - begin
    passed = at[:, None] - begin
    linear = np.clip(passed / np.where(length > 0, length, 1.0), 0.0, 1.0)
    return np.where(length > 0, linear, (passed >= 0).astype(np.float64))
