"""Parse command lines with the engine's own argument parser.

    python -m tests.engine_parser [--dynamo | --router] --append SITE_PACKAGES ...

Runs in an environment that has SGLang but not all it imports: ``--append`` adds folders of other environments (torch),
``stubs`` stands in for the rest. Answers each line of its input, a JSON list of arguments, by a line of JSON, either
``{"parsed": {...}}`` or ``{"error": "..."}``; with ``--table`` it prints the parser's flags instead
(``manifests/engines/sglang_options``). With ``--dynamo`` the lines are those of ``python -m dynamo.sglang``,
with ``--router`` those of ``python -m sglang_router.launch_router``.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
from collections.abc import Callable
from typing import Any

from tests.engine_parser import stubs

Parse = Callable[[list[str]], argparse.Namespace]


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--append", action="append", default=[])
    options.add_argument("--dynamo", action="store_true")
    options.add_argument("--router", action="store_true")
    options.add_argument("--table", action="store_true")
    chosen = options.parse_args()
    sys.path.extend(chosen.append)
    stubs.install()
    with contextlib.redirect_stdout(sys.stderr):  # Imports print.
        parse = dynamo_parser() if chosen.dynamo else router_parser() if chosen.router else sglang_parser()
    if chosen.table:
        print(json.dumps(dynamo_table() if chosen.dynamo else sglang_table()))
        return
    for line in sys.stdin:
        print(json.dumps(answer(parse, json.loads(line)), default=str), flush=True)


def sglang_parser() -> Parse:
    """The parser of ``python -m sglang.launch_server``."""
    return _sglang().parse_args


def _sglang() -> argparse.ArgumentParser:
    from sglang.srt.server_args import ServerArgs

    parser = argparse.ArgumentParser()
    ServerArgs.add_cli_args(parser)
    return parser


def sglang_table() -> list[list[Any]]:
    """The flags of ``python -m sglang.launch_server``."""
    return table(_sglang())


def dynamo_table() -> list[list[Any]]:
    """The flags that ``python -m dynamo.sglang`` adds."""
    from dynamo.common.configuration.groups import DynamoRuntimeArgGroup
    from dynamo.sglang.backend_args import DynamoSGLangArgGroup

    own = argparse.ArgumentParser()
    DynamoRuntimeArgGroup().add_arguments(own)
    DynamoSGLangArgGroup().add_arguments(own)
    return table(own)


def table(parser: argparse.ArgumentParser) -> list[list[Any]]:
    """For each action: its flags, how many values it takes (``nargs``), their type, and its choices."""
    actions = [a for a in parser._actions if a.option_strings and "--help" not in a.option_strings]
    rows = []
    for action in actions:
        kind = action.type.__name__ if action.type in (int, float) else "str"
        choices = sorted(map(str, action.choices)) if action.choices else []
        rows.append([list(action.option_strings), action.nargs, kind, choices])
    return sorted(rows)


def dynamo_parser() -> Parse:
    """The parsers of ``python -m dynamo.sglang`` in its order: Dynamo's own, then SGLang's for what is left."""
    from dynamo.common.configuration.groups import DynamoRuntimeArgGroup
    from dynamo.sglang.backend_args import DynamoSGLangArgGroup
    from dynamo.sglang.engine_routes import parse_engine_route_descriptors
    from sglang.srt.server_args import ServerArgs

    own = argparse.ArgumentParser()
    DynamoRuntimeArgGroup().add_arguments(own)
    DynamoSGLangArgGroup().add_arguments(own)
    sglang = argparse.ArgumentParser(add_help=False)
    ServerArgs.add_cli_args(sglang)

    def parse(line: list[str]) -> argparse.Namespace:
        known, rest = own.parse_known_args(line)
        routes = parse_engine_route_descriptors(known.engine_routes)
        left = vars(sglang.parse_args(rest))
        return argparse.Namespace(**{**vars(known), **left, "engine_routes": [f"{r.path}:{r.target}" for r in routes]})

    return parse


def router_parser() -> Parse:
    """The parser of SGLang's router, with what it makes of the servers that it is given."""
    from sglang_router.router_args import RouterArgs

    parser = argparse.ArgumentParser()
    RouterArgs.add_cli_args(parser, use_router_prefix=False)
    return lambda line: argparse.Namespace(**vars(RouterArgs.from_cli_args(parser.parse_args(line))))


def answer(parse: Parse, line: list[str]) -> dict[str, Any]:
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return {"parsed": vars(parse(line))}
    except SystemExit:
        return {"error": said.getvalue().strip().splitlines()[-1]}
    except ValueError as error:
        return {"error": str(error)}


if __name__ == "__main__":
    main()
