"""Workloads whose measurements cannot pass their gates or cannot be judged, told before anything is deployed."""

from __future__ import annotations

import math

from wideloop.manifests.findings import Finding
from wideloop.manifests.workload import MOST_PROMPT_TOKENS, MOST_REQUESTS, Slo, Workload
from wideloop.results.gates import MIN_PLATEAU

#: Turns of a closed loop that no plateau holds: the first, in which all slots start, and the last, which drains.
_EDGES = 2


def workload_findings(workload: Workload, slo: Slo | None) -> list[Finding]:
    """Errors for ``workload``; ``slo``: what configurations are judged by, None where nothing is."""
    findings = []
    least = math.ceil(_EDGES + MIN_PLATEAU)
    if workload.requests_per_slot < least:
        steady = max(workload.requests_per_slot - _EDGES, 0)
        findings.append(
            Finding(
                field="requests_per_slot",
                value=workload.requests_per_slot,
                rule="all slots start at once and answers are equally long, so the load is steady only between the"
                f" first and the last request of a slot: for {steady} mean times of a request, where the gate 'plateau'"
                f" wants {MIN_PLATEAU}",
                suggestion=f"Use {least} or more",
            )
        )
    findings += [*_too_large(workload), *_repeated(workload)]
    if slo is not None and workload.osl < 2:
        findings.append(
            Finding(
                field="osl",
                value=workload.osl,
                rule="an answer of one token has no time per output token, so no configuration could miss "
                f"slo_tpot_p99_ms = {slo.tpot_p99_ms:g}",
                suggestion="Use 2 or more",
            )
        )
    return findings


def _too_large(workload: Workload) -> list[Finding]:
    """Errors for loads whose requests or prompts a host cannot keep."""
    slots = sum(workload.concurrency)
    tokens = workload.requests * workload.isl
    most = min(MOST_REQUESTS, MOST_PROMPT_TOKENS // workload.isl)
    if workload.requests <= most:
        return []
    size = f"{workload.requests:,} requests" + (f" and {tokens:,} prompt tokens" if tokens > MOST_PROMPT_TOKENS else "")
    fewer = (most - workload.warmup_requests) // slots
    works = f"Use at most {fewer}" if fewer >= 2 else "Use fewer or lower levels of concurrency"
    return [
        Finding(
            field="requests_per_slot",
            value=workload.requests_per_slot,
            rule=f"the benchmark would have {size}; the load generator's host keeps {most:,} requests of that length",
            suggestion=works,
        )
    ]


def _repeated(workload: Workload) -> list[Finding]:
    """An error where a level would be paid for twice: measurements are kept by their level."""
    levels = sorted(set(workload.concurrency))
    if len(levels) == len(workload.concurrency):
        return []
    rule = "names a level twice, and of two measurements at one level the last one is kept"
    return [Finding(field="concurrency", value=list(workload.concurrency), rule=rule, suggestion=f"Use {levels}")]
