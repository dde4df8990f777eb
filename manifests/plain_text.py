"""Text from programs, made safe to show: in a log, a terminal, a page."""

from __future__ import annotations

import re

#: Escape sequences of terminals, and control characters but for tabs and line ends.
_CONTROL = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])|[\x00-\x08\x0b-\x1f\x7f\x80-\x9f]"
)


def plain(text: str) -> str:
    """``text`` without colours, cursor movements and other control characters.

    >>> plain("\\x1b[31mValueError\\x1b[0m: no \\x07bell")
    'ValueError: no bell'
    """
    return _CONTROL.sub("", text)
