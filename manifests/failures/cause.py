"""One known cause of a failure, and how a line of a log is recognised as it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from wideloop.manifests.diagnosis import FailureKind

#: ``decisive``: says why. ``vague``: says that something failed, and another line nearby says why. ``consequence``: a
#: process ends so because another one has ended before it.
Weight = Literal["decisive", "vague", "consequence"]


@dataclass(frozen=True)
class Cause:
    """A cause, recognised by the words of a log.

    Attributes:
        pattern: matches the text of a line or of an exception; its named groups may be used in ``message``.
        message: what happened, as the end of a sentence that begins with the component.
        action: what to set or to look at.
        infeasible: the configuration cannot run on any machine of that kind, so a trial of it is worth no second try.
    """

    kind: FailureKind
    pattern: re.Pattern[str]
    message: str
    action: str
    weight: Weight = "decisive"
    infeasible: bool = False

    def explain(self, text: str) -> str | None:
        """The message about ``text``; None when this is not its cause."""
        match = self.pattern.search(text)
        if match is None:
            return None
        groups = {name: (value or "").strip() for name, value in match.groupdict().items()}
        return self.message.format(**groups).rstrip(": ")


def cause(
    kind: FailureKind,
    pattern: str,
    message: str,
    action: str,
    *,
    weight: Weight = "decisive",
    infeasible: bool = False,
) -> Cause:
    """A cause whose pattern ignores upper and lower case and spans the lines of an exception."""
    return Cause(kind, re.compile(pattern, re.IGNORECASE | re.DOTALL), message, action, weight, infeasible)
