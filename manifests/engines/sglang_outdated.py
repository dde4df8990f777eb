"""Findings about flags of published recipes that SGLang no longer has, in the options that users add.

From the argument parsers of the wheels 0.5.1 to 0.5.23. Flags that are still parsed with another meaning are not here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from wideloop.manifests.engines.sglang_versions import Version, parse
from wideloop.manifests.findings import Finding


class _Removed(NamedTuple):
    """The first version in which a flag is an error, and its replacement."""

    since: Version
    replacement: str


_REMOVED = {
    "--enable-deepep-moe": _Removed((0, 5, 5), "the knob deepep_mode (--moe-a2a-backend deepep)"),
    "--enable-ep-moe": _Removed((0, 5, 5), "the layout's EP (--ep-size)"),
    "--enable-expert-distribution-metrics": _Removed((0, 5, 18), "--expert-balancedness-report-mode both"),
    "--cuda-graph-bs": _Removed((0, 5, 20), "--cuda-graph-bs-decode"),
    "--cuda-graph-max-bs": _Removed((0, 5, 20), "the knob cuda_graph_max_bs (--cuda-graph-max-bs-decode)"),
    "--prefill-round-robin-balance": _Removed((0, 5, 17), "--load-balance-method round_robin"),
    "--n-share-experts-fusion": _Removed((0, 5, 17), "nothing: SGLang decides by itself"),
}
#: The target sets these when it starts the ranks of a worker: a second value would contradict the first.
_RANKS = ("--dist-init-addr", "--nnodes", "--node-rank")


def outdated_flag_findings(field: str, flags: Sequence[str], version: str) -> list[Finding]:
    """Errors for those of ``flags`` (options that users add to every command line) that SGLang ``version`` refuses."""
    findings = []
    for flag in (f.partition("=")[0] for f in flags):
        removed = _REMOVED.get(flag)
        if removed is not None and parse(version) >= removed.since:
            since = ".".join(map(str, removed.since))
            rule = f"SGLang {since} removed this flag; recipes that use it are older"
            findings.append(Finding(field=field, value=flag, rule=rule, suggestion=f"Use {removed.replacement}"))
        if flag in _RANKS:
            rule = "the target numbers the ranks when it starts a worker's nodes"
            findings.append(Finding(field=field, value=flag, rule=rule, suggestion="Leave it out"))
    return findings
