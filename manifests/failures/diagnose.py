"""From the last lines of a log to a diagnosis: the last failure decides, and memory only by its own words."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from wideloop.manifests.diagnosis import Diagnosis
from wideloop.manifests.failures import devices, host, memory, model_files, network, refusals
from wideloop.manifests.failures.cause import Cause
from wideloop.manifests.failures.log_text import BARE, Failure, clean, failures

#: The first cause that a text matches counts: those that name the least ambiguous thing come first.
CAUSES: tuple[Cause, ...] = (
    *memory.CAUSES,
    memory.HELD_BY_OTHERS,
    *devices.CAUSES,
    *network.CAUSES,
    *host.CAUSES,
    *model_files.CAUSES,
    *refusals.CAUSES,
)
TAIL = 15
_QUOTED = 300

_READ = "Read the log lines below"
#: What an exit status says where the log says nothing: the end of a sentence, and what to do.
_STATUS: dict[int | None, tuple[str, str]] = {
    -signal.SIGKILL: (
        ": something outside of it ended it",
        "Look at that node's `dmesg` for the out-of-memory killer, and at the pod's events for an eviction",
    ),
    -signal.SIGTERM: (": it was told to end", "See who removed it, and whether its node was drained or preempted"),
    -signal.SIGSEGV: (": a fault in native code", "Look for a stack in its log, and try another engine version"),
    -signal.SIGBUS: (": memory could not be mapped", "Raise WIDELOOP_CLUSTER__SHARED_MEMORY"),
    -signal.SIGILL: (
        ": an instruction that its processor lacks",
        "Select other nodes (WIDELOOP_CLUSTER__GPU_NODE_SELECTOR), or build the image for this processor",
    ),
    126: (": its program may not be executed", "Check the image and its entry point"),
    127: (": its program is not in the image", "Check the image and its entry point"),
}


class Explanation(NamedTuple):
    """A failure and its cause."""

    failure: Failure
    cause: Cause
    message: str


def diagnose(component: str, log: Sequence[str], exit_code: int | None, causes: Sequence[Cause] = CAUSES) -> Diagnosis:
    """Why a component has ended, from its log and exit status.

    The log is read backwards: the last exception (or other end of a process) decides, unless it only says that
    another process has ended, or that something failed without a reason; then the one before it, and what libraries
    wrote beside it. What a process survived decides nothing.

    Args:
        exit_code: negative for a signal; None when unknown.
    """
    lines = [clean(line) for line in log]
    messages = failures(lines)
    explanation = explain(messages, causes)
    if explanation is None:
        return _unexplained(component, lines, exit_code, messages)
    cause, failure = explanation.cause, explanation.failure
    message = explanation.message
    if cause.weight != "decisive":
        message = f"{message}: {_quoted(failure.text)}"
    diagnosis = Diagnosis(
        kind=cause.kind,
        component=component,
        message=message,
        action=cause.action,
        log_tail=_tail(lines, failure),
        infeasible=cause.infeasible,
    )
    return _with_memory(diagnosis, failure, messages, lines) if cause.kind == "out_of_memory" else diagnosis


def _with_memory(
    diagnosis: Diagnosis, failure: Failure, messages: Sequence[Failure], lines: Sequence[str]
) -> Diagnosis:
    """The same with the memory that was missing; another kind where other processes held it."""
    others = memory.others_gib(failure.text)
    if others:
        held = memory.HELD_BY_OTHERS
        message = f"{held.message}: {others:.1f} GiB, without which it would have had enough"
        return diagnosis.changed(kind=held.kind, message=message, action=held.action)
    texts = [f.text for f in messages if not f.is_past(failure)]
    return diagnosis.changed(deficit_gib=memory.deficit_gib(texts, lines))


def _unexplained(component: str, lines: Sequence[str], exit_code: int | None, messages: Sequence[Failure]) -> Diagnosis:
    """A crash without a known cause: the last exception in its own words, else what the exit status says."""
    last = next((f for f in reversed(messages) if f.fatal and not cause_of(f)), None)
    message = f"ended with {_status(exit_code)}"
    if last is not None:
        message, action = f"{message}: {_quoted(last.text)}", _READ
    else:
        reason, action = _STATUS.get(exit_code, ("", _READ))
        message = f"{message} and no known cause in its log{reason}"
    return Diagnosis(kind="crashed", component=component, message=message, action=action, log_tail=_tail(lines, last))


def explain(messages: Sequence[Failure], causes: Sequence[Cause] = CAUSES) -> Explanation | None:
    """The cause of the last failure; None where no known cause fits it."""
    last = next((f for f in reversed(messages) if f.fatal), messages[-1] if messages else None)
    recent = [f for f in reversed(messages) if last is not None and not f.is_past(last)]
    best: Explanation | None = None
    unknown: Failure | None = None
    for failure in (f for f in recent if f.fatal):
        if unknown is not None and not failure.led_to(unknown):
            break
        explanation = cause_of(failure, causes)
        if explanation is None:
            unknown = None if BARE.match(failure.text) else failure
        elif explanation.cause.weight == "decisive":
            return explanation
        elif unknown is None and (best is None or best.cause.weight == "consequence"):
            best = explanation
    if unknown is not None and (best is None or best.cause.weight == "consequence"):
        return None  # Its own words say more than that something followed it.
    return _beside(recent, causes) or best


def cause_of(failure: Failure, causes: Sequence[Cause] = CAUSES) -> Explanation | None:
    """The first cause that fits the first line of a failure, else the first one that fits all of it."""
    vague: Explanation | None = None
    for text in dict.fromkeys((failure.text.partition("\n")[0], failure.text)):
        for cause in causes:
            message = cause.explain(text)
            if message is None:
                continue
            explanation = Explanation(failure, cause, message)
            if cause.weight == "decisive":
                return explanation
            vague = vague or explanation
    return vague


def _beside(recent: Iterable[Failure], causes: Sequence[Cause]) -> Explanation | None:
    """What lines that end no process by themselves say decisively, the last one first."""
    explanations = (cause_of(failure, causes) for failure in recent if not failure.fatal)
    return next((e for e in explanations if e is not None and e.cause.weight == "decisive"), None)


def _tail(lines: Sequence[str], failure: Failure | None) -> tuple[str, ...]:
    """The last lines, led by the failure's own where it is not among them."""
    tail = tuple(lines[-TAIL:])
    if failure is None or failure.index >= len(lines) - TAIL:
        return tail
    return (*failure.text.splitlines()[:2], *tail[2:])


def _quoted(text: str) -> str:
    """The first line of a message, and the next ones where it introduces them."""
    first, *rest = text.split("\n")
    return " ".join((first, *rest[:2]) if first.endswith(":") else (first,))[:_QUOTED]


def _status(exit_code: int | None) -> str:
    if exit_code is None:
        return "an unknown status"
    return f"signal {-exit_code}" if exit_code < 0 else f"status {exit_code}"
