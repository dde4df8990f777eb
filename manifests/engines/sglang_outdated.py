"""Flags of published recipes that SGLang no longer has, found in what users add to its command lines.

From the argument parsers of the wheels 0.5.1 to 0.5.23. What is still parsed but means something else is not here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from wideloop.manifests.engines.sglang_versions import Version, parse
from wideloop.manifests.findings import Finding


class _Gone(NamedTuple):
    """Since which version a flag is an error, and what says the same now."""

    since: Version
    now: str


_GONE = {
    "--enable-deepep-moe": _Gone((0, 5, 5), "the knob deepep_mode (--moe-a2a-backend deepep)"),
    "--enable-ep-moe": _Gone((0, 5, 5), "the layout's EP (--ep-size)"),
    "--enable-expert-distribution-metrics": _Gone((0, 5, 18), "--expert-balancedness-report-mode both"),
    "--cuda-graph-bs": _Gone((0, 5, 20), "--cuda-graph-bs-decode"),
    "--cuda-graph-max-bs": _Gone((0, 5, 20), "the knob cuda_graph_max_bs (--cuda-graph-max-bs-decode)"),
    "--prefill-round-robin-balance": _Gone((0, 5, 17), "--load-balance-method round_robin"),
    "--n-share-experts-fusion": _Gone((0, 5, 17), "nothing: SGLang decides by itself"),
}
#: Written by whoever starts the ranks of a worker: a second value would contradict it.
_RANKS = ("--dist-init-addr", "--nnodes", "--node-rank")


def findings(field: str, flags: Sequence[str], version: str) -> list[Finding]:
    """What cannot be among ``flags``, which users add to every command line of SGLang ``version``."""
    found = []
    for flag in (f.partition("=")[0] for f in flags):
        gone = _GONE.get(flag)
        if gone is not None and parse(version) >= gone.since:
            since = ".".join(map(str, gone.since))
            rule = f"SGLang has it no more since {since}, and recipes that have it are older"
            found.append(Finding(field=field, value=flag, rule=rule, suggestion=f"Use {gone.now}"))
        if flag in _RANKS:
            rule = "ranks are numbered by what starts a worker's nodes"
            found.append(Finding(field=field, value=flag, rule=rule, suggestion="Leave it out"))
    return found
