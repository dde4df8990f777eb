"""``python -m wideloop.operators.standalone``: as ``wideloop cycle``, where typer is not installed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from wideloop.operators.standalone.cycle import run_cycle
from wideloop.operators.standalone.log import log_to_terminal


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is left of a cycle; see :func:`run_cycle` for the exit status."""
    parser = argparse.ArgumentParser(prog="python -m wideloop.operators.standalone", description=run_cycle.__doc__)
    parser.add_argument("request", type=Path, help="JSON object of parameters, named as in the trigger form")
    parser.add_argument("--run", required=True, help="name of the cycle; the same name continues it")
    parser.add_argument("--budget", type=float, help="seconds this command may take (default: no limit)")
    parser.add_argument("--report", type=Path, help="folder for report.md and report.json")
    args = parser.parse_args(argv)
    log_to_terminal()
    return run_cycle(args.request, args.run, args.budget, args.report)


if __name__ == "__main__":
    sys.exit(main())
