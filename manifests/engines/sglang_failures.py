"""What SGLang's log says about its end, beside the causes of all engines."""

from __future__ import annotations

import re
from collections.abc import Sequence

from wideloop.manifests import failures
from wideloop.manifests.diagnosis import Diagnosis
from wideloop.manifests.engines.base import Component

_MINIMUM = re.compile(r"Raise --mem-fraction-static above (?P<fraction>\d[\d.]*\d)")

#: Lines that follow the whole traceback: after them a server only waits, at most 65 seconds, before it ends.
_ENDING = re.compile(
    r"Received sigquit from a child process|Sleeping \d+ seconds before crash diagnostics|"
    r"for CUDA coredumps before exiting"
)


def will_die(log: Sequence[str]) -> bool:
    """Whether the server will end although it still runs (and may still answer health checks)."""
    return any(_ENDING.search(line) for line in log)


def diagnose(component: Component, log: Sequence[str], exit_code: int | None) -> Diagnosis:
    """Diagnose a component that has ended, from its log; the least memory fraction is named where SGLang says it."""
    diagnosis = failures.diagnose(component.name, log, exit_code)
    minimum = next((m for line in reversed(log) if (m := _MINIMUM.search(line))), None)
    if diagnosis.kind != "out_of_memory" or minimum is None:
        return diagnosis
    message = f"{diagnosis.message} (mem_fraction_static must be above {minimum['fraction']})"
    return diagnosis.changed(message=message)
