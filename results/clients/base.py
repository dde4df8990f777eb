"""What a load generator's files are read into: one neutral form for every client.

The client itself is a :class:`wideloop.manifests.clients.base.LoadGenerator` of the same name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from wideloop.results.plateau import Requests


class UnusableError(Exception):
    """What is wrong with the files, in one sentence."""


@dataclass(frozen=True)
class LevelRequests:
    """The requests of one level of concurrency.

    Attributes:
        ended: requests that ended, answered or not.
        errors: those of them that failed or were cancelled.
        worst_error: the most frequent failure: its count and its message.
        cancelled: the client gave up before the end, after too many errors or at a signal.
        answered: the requests that were answered.
    """

    ended: int
    errors: int
    worst_error: str
    cancelled: bool
    answered: Requests


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
