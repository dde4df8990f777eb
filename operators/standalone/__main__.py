"""Command line of the driver."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from wideloop.manifests.engines import get_engine
from wideloop.manifests.errors import WideloopError
from wideloop.operators.request import Request
from wideloop.operators.standalone.budget import Budget, OutOfTime
from wideloop.operators.standalone.driver import Driver
from wideloop.operators.standalone.report import write_report
from wideloop.operators.steps.run import Run

#: As ``sysexits.h`` has it: a temporary failure, try again.
AGAIN = 75
DAG_ID = "script"


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is left of a cycle; 0 when it is complete, 75 when the budget ended before, 1 when it failed."""
    parser = argparse.ArgumentParser(prog="python -m wideloop.operators.standalone", description=__doc__)
    parser.add_argument("request", type=Path, help="JSON object of parameters, named as in the trigger form")
    parser.add_argument("--run", required=True, help="name of the cycle; the same name goes on with it")
    parser.add_argument("--budget", type=float, help="seconds this command may take (default: no limit)")
    parser.add_argument("--report", type=Path, help="folder for report.md and report.json")
    args = parser.parse_args(argv)
    params = json.loads(args.request.read_text())
    run = Run(dag_id=DAG_ID, run_id=args.run)
    ended = 1
    try:
        driver = Driver(params, run, Budget(args.budget), warm_up=not _simulated(params))
        try:
            ended = _stages(driver)
        finally:
            driver.clean_up()
    except WideloopError as problem:
        print(problem, file=sys.stderr)
    finally:
        if args.report is not None:
            write_report(params, run, args.report)
    return ended


def _simulated(params: dict[str, object]) -> bool:
    return get_engine(Request.from_params(params).engine).simulated


def _stages(driver: Driver) -> int:
    try:
        driver.prepare()
        driver.baseline()
        driver.prove()
        driver.tune()
        driver.confirm()
    except OutOfTime as ended:
        print(f"{ended}; run the same command again to go on")
        return AGAIN
    found = driver.conclude()
    print(f"{found.verdict}: {found.reason}; gain {found.gain:+.1%} [{found.gain_low:+.1%}, {found.gain_high:+.1%}]")
    return 0


if __name__ == "__main__":
    sys.exit(main())
