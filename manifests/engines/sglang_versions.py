"""The SGLang versions whose server flags are known, and the differences between them.

Read in the wheels of 0.5.17 to 0.5.23 and checked with their own argument parsers
(``tests/unit/manifests/engines/test_sglang_parser.py``). Flags that all versions share are in ``sglang_flags``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from wideloop.manifests.errors import Refused
from wideloop.manifests.findings import Finding

Version = tuple[int, int, int]
#: "0.5.21", with an optional suffix of a post-release or a build, which does not change the flags.
_VERSION = re.compile(r"v?(\d+)\.(\d+)\.(\d+)(?:\.?post\d+)?(?:\+[a-z0-9.]+)?")


@dataclass(frozen=True)
class FlagTable:
    """The flags of a range of versions, both ends included.

    Attributes:
        attention_dp: flags that set the attention data-parallel size to the number filled in for ``{}``.
        balancedness: flags that make the server report how evenly its experts are loaded.
        remaps: whether routing follows a placement without an all-to-all back end. Before 0.5.23 each model passes
            the placement to the router itself, and some models do not.
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

#: Oldest first. 0.5.17 is the oldest with --cuda-graph-max-bs-decode, which later versions require.
TABLES = (
    FlagTable((0, 5, 17), (0, 5, 17), _INSIDE_TP, _OLD_METRICS),
    FlagTable((0, 5, 18), (0, 5, 21), _INSIDE_TP, _REPORT),
    FlagTable((0, 5, 22), (0, 5, 22), _OWN_SIZE, _REPORT),
    FlagTable((0, 5, 23), (0, 5, 23), _OWN_SIZE, _REPORT, remaps=True),
)
#: The SGLang version in the Dynamo release (1.6.1) that documents are rendered for.
DEFAULT_VERSION = "0.5.21"


def flag_table(version: str) -> FlagTable:
    """The flags of an SGLang version such as ``0.5.21`` or ``0.5.21.post1``.

    Raises:
        Refused: the flags of that version are unknown; the finding lists the known ranges.
    """
    unknown_version = version_finding(version)
    if unknown_version is not None:
        raise Refused([unknown_version])
    return next(t for t in TABLES if t.first <= parse(version) <= t.last)


def version_finding(version: str) -> Finding | None:
    """The error for a ``version`` whose flags are unknown, None for a known one."""
    parsed = parse(version)
    if any(t.first <= parsed <= t.last for t in TABLES):
        return None
    ranges = ", ".join(map(str, TABLES))
    return Finding(
        field="engine_version",
        value=version,
        rule=f"SGLang's flags change from version to version, and only those of {ranges} are known",
        suggestion=f"Use one of them, e.g. {DEFAULT_VERSION}",
    )


def parse(version: str) -> Version:
    """The three numbers of a version; zeros, which no table contains, when the text is no version."""
    match = _VERSION.fullmatch(version)
    return (int(match[1]), int(match[2]), int(match[3])) if match else (0, 0, 0)
