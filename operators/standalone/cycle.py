"""A whole cycle as a command: what ``wideloop cycle`` and ``python -m wideloop.operators.standalone`` do."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from pathlib import Path

from wideloop.manifests.errors import Refused, WideloopError
from wideloop.operators.request import Request
from wideloop.operators.settings import make_private, settings
from wideloop.operators.standalone.budget import Budget, OutOfTime
from wideloop.operators.standalone.driver import Driver
from wideloop.operators.standalone.log import log_to_file
from wideloop.operators.standalone.report import write_report
from wideloop.operators.steps.run import Run

log = logging.getLogger(__name__)

#: Exit status when the budget ended before the cycle; ``EX_TEMPFAIL`` of ``sysexits.h`` asks to try again.
AGAIN = 75
#: Takes the place of a DAG's id in what is stored.
DAG_ID = "script"


def run_cycle(request: Path, name: str, budget_s: float | None = None, report: Path | None = None) -> int:
    """Run what is left of a cycle.

    Args:
        request: a JSON object of parameters, named as in the trigger form.
        name: of the cycle; the same name continues it.
        budget_s: seconds this call may take, None for no limit.
        report: folder for report.md, report.json and driver.log.

    Returns:
        The exit status: 0 when the cycle is complete, 75 when the budget ended before, 1 when it failed.
    """
    params = json.loads(request.read_text())
    try:
        wanted = Request.from_file(params)
    except Refused as refusal:
        print(refusal, file=sys.stderr)
        return 1
    make_private(settings().home)
    run = Run(dag_id=DAG_ID, run_id=name)
    status = 1
    with log_to_file(report / "driver.log") if report is not None else contextlib.nullcontext():
        try:
            driver = Driver(params, run, Budget(budget_s), warm_up=not wanted.simulated)
            try:
                status = _drive(driver)
            finally:
                driver.clean_up()
        except WideloopError as problem:
            log.error(problem)
        finally:
            if report is not None:
                write_report(params, run, report)
    return status


def _drive(driver: Driver) -> int:
    try:
        conclusion = driver.run()
    except OutOfTime as ended:
        log.info("%s; run the same command again to continue", ended)
        return AGAIN
    gain = f"gain {conclusion.gain:+.1%} [{conclusion.gain_low:+.1%}, {conclusion.gain_high:+.1%}]"
    log.info("%s: %s; %s", conclusion.verdict, conclusion.reason, gain)
    return 0
