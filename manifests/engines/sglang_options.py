"""Flags that users add to the command lines of SGLang's workers, parsed as the engine's own parser would.

The table holds the flags of the parsers of several versions, and those that Dynamo adds in front
(``python -m tests.engine_parser.write_tables``; a test compares it with the parsers). An ``argparse`` parser made of it
resolves every spelling: ``--flag=value``, abbreviations, negated flags.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

from wideloop.manifests.engines.sglang_versions import Version
from wideloop.manifests.engines.sglang_versions import parse as parse_version

TABLE = Path(__file__).with_name("sglang_options.json")
_DYNAMO = "dynamo"
_TYPES = {"int": int, "float": float, "str": str}


class OptionError(ValueError):
    """The engine's parser refuses the options; the text is the parser's."""


class Options(dict[str, Any]):
    """The given flags by their first spelling, with their values; ``aliases`` has every spelling of each."""

    def __init__(self, values: dict[str, Any], aliases: dict[str, tuple[str, ...]]) -> None:
        super().__init__(values)
        self.aliases = aliases

    def spellings(self, flag: str) -> tuple[str, ...]:
        return self.aliases[flag]


def parse(options: Sequence[str], version: str, *, dynamo: bool) -> Options:
    """The flags in ``options`` for SGLang ``version``, under Dynamo or alone.

    Between two versions whose parsers are known, flags of either are taken.

    Raises:
        OptionError: no parser takes them.
    """
    errors = []
    for known in _neighbours(parse_version(version)):
        try:
            return _parse(options, known, dynamo=dynamo)
        except OptionError as error:
            errors.append(error)
    raise errors[0]


def _parse(options: Sequence[str], version: str, *, dynamo: bool) -> Options:
    # Dynamo's own parser comes first and leaves the rest to SGLang's.
    first, rest = _parser(_DYNAMO).parse_known_args(list(options)) if dynamo else (argparse.Namespace(), list(options))
    values = {**vars(first), **vars(_parser(version).parse_args(rest))}
    rows = {row[0][0]: tuple(row[0]) for name in (_DYNAMO, version) for row in _rows(name)}
    return Options(values, rows)


def _neighbours(version: Version) -> list[str]:
    """The known version itself, or the nearest ones around it, the newer one first."""
    versions = sorted((parse_version(v), v) for row in _table() for v in row[4] if v != _DYNAMO)
    newer = [name for number, name in versions if number >= version]
    older = [name for number, name in versions if number <= version]
    return list(dict.fromkeys([*newer[:1], *older[-1:]]))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise OptionError(message)


@lru_cache
def _parser(name: str) -> _Parser:
    parser = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    for flags, nargs, kind, choices, _ in _rows(name):
        if nargs == 0:
            parser.add_argument(*flags, dest=flags[0], action="store_true")
        else:
            parser.add_argument(*flags, dest=flags[0], nargs=nargs, type=_TYPES[kind], choices=choices or None)
    return parser


def _rows(name: str) -> Iterable[list[Any]]:
    return (row for row in _table() if name in row[4])


@lru_cache
def _table() -> list[list[Any]]:
    rows: list[list[Any]] = json.loads(TABLE.read_text())
    return rows
