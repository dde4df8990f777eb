"""What a load generator's files are read into: one neutral form for every client.

The client itself is a :class:`wideloop.manifests.clients.base.LoadGenerator` of the same name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from wideloop.results.plateau import Requests


class UnusableError(Exception):
    """What is wrong with the files, in one sentence."""


class Defect(NamedTuple):
    """A metric of one answer that is missing or cannot be."""

    request: str
    problem: str

    def __str__(self) -> str:
        return f"{self.problem} in request {self.request}"


@dataclass(frozen=True)
class LevelRequests:
    """The requests of one level of concurrency.

    Attributes:
        ended: requests that ended, answered or not.
        errors: those of them that failed or were cancelled.
        worst_error: the most frequent failure: its count and its message.
        cancelled: the client gave up before the end, after too many errors or at a signal.
        answered: the requests that were answered.
        names: the client's name for each of these; empty where it has none.
        defects: answers beside these that lack a metric, one for each answer.
        cached: input tokens of the answered requests that the server took from its cache, where it tells.
    """

    ended: int
    errors: int
    worst_error: str
    cancelled: bool
    answered: Requests
    names: tuple[str, ...] = ()
    defects: tuple[Defect, ...] = ()
    cached: float = 0.0


class ResultReader(ABC):
    """Reads what one load generator leaves in its output folder."""

    @abstractmethod
    def read(self, folder: Path) -> dict[int, LevelRequests]:
        """The levels that were measured, by their index in ``Workload.concurrency``; the warm-up is none of them.

        Raises:
            UnusableError: a file is missing, cut short, or not one of this client.
        """

    def log_lines(self, folder: Path) -> list[str]:  # noqa: ARG002
        """The last lines of the client's own log, without those that say nothing about a failure."""
        return []
