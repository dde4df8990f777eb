"""The lines of an engine's log that may say why it ended, told from those that programs write while they work.

Engines, libraries and the interpreter write into one stream, each in a form of its own, and every rank of a worker
writes there too. What is looked for is told by its form: an exception begins with the name of its class, a warning has
its level at the front, a frame of a traceback is indented.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from wideloop.manifests.plain_text import plain

#: What loggers put before a message: ranks, processes, times, levels of errors.
_PREFIX = re.compile(
    r"^\s*(?:(?:\([^()]*\)|\[[^\[\]]*\]:?|\{[^{}]*\}:|ERROR|CRITICAL|FATAL|E\d{4}|\d[\d:.,/TZ+-]*|\||-|\w+\.cc:\d+\]?)"
    r"(?=[\s:\[(\]]|$)[:\]]?)+\s?",
)
_HARMLESS = re.compile(
    r"(?<![\w='\"/])(?:WARN(?:ING)?|INFO|DEBUG|TRACE|NOTICE)(?=[\s:|\]])|(?:^|[\[\s:])[WI](?:\d{4}\s\d| \w+\.c)|"
    r"\w*Warning:|^\s*warnings\.warn"
)
#: Words by which a program says that it goes on.
_SURVIVED = re.compile(
    r"\b(?:(?<!Watchdog )caught|ignor(?:e|ed|ing)|skipp(?:ed|ing)|retry(?:ing)?|retried|fall(?:s|ing)? ?back|"
    r"try(?:ing)? again|"
    r"disabled|metrics off|not fatal|non-fatal)\b|will (?:be )?(?:retry|retried|try again|continue)",
    re.IGNORECASE,
)
#: Libraries below Python that report errors as warnings of their own.
_NATIVE = re.compile(r"NCCL WARN|UCX\s+(?:ERROR|FATAL|WARN)|nvshmem|NVRM: Xid", re.IGNORECASE)
_EXCEPTION = re.compile(
    r"^(?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*(?:Error|Exception|Interrupt|Timeout|Failure|OutOfResources|OutOfMemory)\b"
    r"(?:\([^)]*\))?(?=:|\s*$)|^Exception: "
)
_FATAL = re.compile(
    r"hit an exception: (?!Traceback)|terminate called|^\s*what\(\): |Fatal Python error|Segmentation fault|"
    r"\bSIG(?:SEGV|BUS|ILL|ABRT)\b|Assertion .{0,200}failed|assertion error|panicked at|\bfatal\b|exec format error|"
    r"error while loading shared libraries|initialization failed, exiting|^Bus error|: error: |"
    r"command not found|^\S*python\S*: No module named|Caught signal|watchdog (?:timeout|hang)|Terminating the process|"
    r"core dumped|exited with code|died\b",
    re.IGNORECASE,
)
#: Words of a line that complains, without the form of something that ends a process.
_COMPLAINT = re.compile(
    r"error|fail|cannot|can't|could not|unable|denied|not found|refused|invalid|missing|time-?d? ?out|exceed|too small|"
    r"non-zero|no space|No module named|not (?:available|supported|permitted|ready|initialized)|insufficient|corrupt|"
    r"lost",
    re.IGNORECASE,
)
#: A configuration on one line is longer than any complaint.
_LONGEST = 1000
#: Of an exception, what is read: all that PyTorch says of memory fits, what a validator says of a request does not.
_LONGEST_EXCEPTION = 4000
#: Lines that a server prints while it comes up or works: what went wrong before them has not ended it.
_WORKS = re.compile(
    r"fired up and ready to roll|Decode batch|Prefill batch|Application startup complete|Load weight (?:begin|end)|"
    r"Memory pool end|CUDA graph end|Engine \d+: Avg prompt throughput|KV Cache is allocated"
)
_TIME = re.compile(r"(?P<day>\d{4}-\d\d-\d\d)[T ](?P<clock>\d\d:\d\d:\d\d)|\[(?P<alone>\d\d:\d\d:\d\d)\b")
#: An exception without a message.
BARE = re.compile(r"^[\w.]+(?:Error|Exception):?\s*$")
#: Between two exceptions of which the first led to the second.
_CHAIN = ("During handling of the above exception", "The above exception was the direct cause")
#: Before an exception at the end of a process that nothing follows from.
_IGNORED = ("Exception ignored in", "Exception ignored on", "Error in atexit", "Exception in callback")
#: Lines of one message beyond its first: an exception's text rarely has more, a server's configuration does.
_CONTINUED = 12
#: Seconds between two failures after which the second is no consequence of the first.
_APART_S = 30.0
#: Seconds within which the processes of an engine end after one of them has failed.
_SOON_S = 3.0
_FRAME = re.compile(r'^\s*File "|^\s*\^+\s*$|^\s{2,}(?!what\(\))')


@dataclass(frozen=True)
class Failure:
    """A message about a failure.

    Attributes:
        text: its line without what loggers put before it, and the lines that continue it.
        index: of its first line in the log.
        fatal: it has the form of something that ends a process, not only of a complaint.
        at: when it was written, in seconds from any fixed moment; None where lines have no time.
        worked_after: the server went on working after it.
        chained: it was raised while the failure before it was handled, which is then its cause.
    """

    text: str
    index: int
    fatal: bool
    at: float | None = None
    worked_after: bool = False
    chained: bool = False

    def is_past(self, later: Failure) -> bool:
        """Whether the process went on for so long that this did not lead to ``later``."""
        apart = self.at is not None and later.at is not None and later.at - self.at > _APART_S
        return apart or (self.worked_after and not later.worked_after)

    def led_to(self, later: Failure) -> bool:
        """Whether the process ended right after this, so that ``later`` came of it: ranks do not fail independently."""
        soon = self.at is not None and later.at is not None and later.at - self.at <= _SOON_S
        return later.chained or (soon and self.fatal and not self.worked_after)


def clean(line: str) -> str:
    """A line as plain text, without the space at its end."""
    return plain(line).rstrip()


def failures(lines: Sequence[str]) -> list[Failure]:
    """The messages about failures in a log whose lines are :func:`clean`, oldest first."""
    last_work = max((i for i, line in enumerate(lines) if _WORKS.search(line)), default=-1)
    messages = []
    at: float | None = None
    chained = ignored = False
    for index, line in enumerate(lines):
        at = _seconds(line) or at
        chained = chained or line.startswith(_CHAIN)
        ignored = ignored or line.lstrip().startswith(_IGNORED)
        text = message_of(line)
        if not text or (ignored and not _EXCEPTION.search(text)):
            continue
        if ignored:
            ignored = False
            continue
        fatal = bool(_EXCEPTION.search(text) or _FATAL.search(text))
        if BARE.match(text):
            text = f"{text.rstrip(': ')}: {_raising_code(lines[max(0, index - 4) : index])}".rstrip(": ")
        whole = "\n".join((text, *_continuation(lines[index + 1 : index + 1 + _CONTINUED])))
        messages.append(Failure(whole, index, fatal, at, index < last_work, chained and fatal))
        chained = chained and not fatal
    return messages


def message_of(line: str) -> str:
    """What a line says beyond its logger's prefix; empty when it is no message about a failure."""
    if _NATIVE.search(line):
        return "" if "NCCL INFO" in line else line.strip()
    prefix = _PREFIX.match(line)
    text = line[prefix.end() :] if prefix else line
    if not text.strip() or _FRAME.match(text) or text.startswith("Traceback "):
        return ""
    text = re.sub(r"^.*hit an exception: (?!Traceback)", "", text).strip()
    if _EXCEPTION.search(text):
        return text[:_LONGEST_EXCEPTION]
    if len(text) > _LONGEST or _HARMLESS.search(line[:120]) or _SURVIVED.search(text):
        return ""
    return text if _FATAL.search(text) or _COMPLAINT.search(text) else ""


def _raising_code(before: Sequence[str]) -> str:
    """The line of code that raised an exception without a message, by the end of its traceback."""
    code = (line.strip() for line in reversed(before) if line.startswith("    ") and not set(line) <= set(" ^~"))
    return next(code, "")


def _continuation(following: Sequence[str]) -> list[str]:
    """The lines that belong to the message before them: up to an empty line, or one with a prefix or of a traceback."""
    texts: list[str] = []
    for line in following:
        text = line.strip()
        if not text or _PREFIX.match(line) or text.startswith(("Traceback ", "File ", *_CHAIN)):
            break
        if _HARMLESS.search(line[:120]) or _EXCEPTION.search(text):
            break
        texts.append(text)
    return texts


def _seconds(line: str) -> float | None:
    match = _TIME.search(line[:160])
    if match is None:
        return None
    day, clock = match["day"] or "2000-01-01", match["clock"] or match["alone"]
    try:
        return datetime.fromisoformat(f"{day}T{clock}+00:00").timestamp()
    except ValueError:
        return None
