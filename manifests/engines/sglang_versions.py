"""Which SGLang versions we know the server flags of, and what differs between them.

Read in the wheels of 0.5.17 to 0.5.23 and checked with their own argument parsers
(``tests/unit/manifests/engines/test_sglang_parser.py``). What all of them share is in ``sglang_flags``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from wideloop.manifests.errors import Refused
from wideloop.manifests.findings import Finding

Version = tuple[int, int, int]
#: "0.5.21", with the suffix of a corrected release or of a build, which has no flags of its own.
_VERSION = re.compile(r"v?(\d+)\.(\d+)\.(\d+)(?:\.?post\d+)?(?:\+[a-z0-9.]+)?")


@dataclass(frozen=True)
class FlagTable:
    """The flags of a range of versions, both ends included.

    Attributes:
        attention_dp: flags that set the attention data-parallel size to the number filled in for ``{}``.
        balancedness: flags that make the server report how even its experts are loaded.
        remaps: whether tokens follow a placement where no all-to-all back end moves them. Before 0.5.23 models hand
            the placement to the router themselves, and some do not.
    """

    first: Version
    last: Version
    attention_dp: tuple[str, ...]
    balancedness: tuple[str, ...]
    remaps: bool = False

    def __str__(self) -> str:
        first, last = (".".join(map(str, v)) for v in (self.first, self.last))
        return first if first == last else f"{first} to {last}"


_INSIDE_TP = ("--dp-size", "{}", "--enable-dp-attention")
_OWN_SIZE = ("--attn-dp-size", "{}")
_OLD_METRICS = ("--enable-expert-distribution-metrics",)
_REPORT = ("--expert-balancedness-report-mode", "both")

#: Oldest first. 0.5.17 is the oldest with --cuda-graph-max-bs-decode, which later ones demand.
TABLES = (
    FlagTable((0, 5, 17), (0, 5, 17), _INSIDE_TP, _OLD_METRICS),
    FlagTable((0, 5, 18), (0, 5, 21), _INSIDE_TP, _REPORT),
    FlagTable((0, 5, 22), (0, 5, 22), _OWN_SIZE, _REPORT),
    FlagTable((0, 5, 23), (0, 5, 23), _OWN_SIZE, _REPORT, remaps=True),
)
#: What the Dynamo release that we render for (1.6.1) is built with.
DEFAULT_VERSION = "0.5.21"


def flag_table(version: str) -> FlagTable:
    """The flags of an SGLang version such as ``0.5.21`` or ``0.5.21.post1``.

    Raises:
        Refused: we do not know that version's flags; the finding lists the ranges we know.
    """
    found = finding(version)
    if found is not None:
        raise Refused([found])
    return next(t for t in TABLES if t.first <= parse(version) <= t.last)


def finding(version: str) -> Finding | None:
    """Why ``version`` cannot be used, None when it can."""
    parsed = parse(version)
    if any(t.first <= parsed <= t.last for t in TABLES):
        return None
    known = ", ".join(map(str, TABLES))
    return Finding(
        field="engine_version",
        value=version,
        rule=f"SGLang's flags change from version to version, and known are those of {known}",
        suggestion=f"Use one of them, e.g. {DEFAULT_VERSION}",
    )


def parse(version: str) -> Version:
    """The three numbers of a version; zeros, which no table has, when it is none."""
    match = _VERSION.fullmatch(version)
    return (int(match[1]), int(match[2]), int(match[3])) if match else (0, 0, 0)
