"""Where log lines go without Airflow, which has its own task log.

Every module logs to ``logging.getLogger(__name__)``, that is, below the logger ``wideloop``.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path


def log_to_terminal(level: int = logging.INFO) -> None:
    """Show log lines as bare messages, errors on standard error; calling it again changes nothing more."""
    logger = logging.getLogger("wideloop")
    logger.setLevel(level)
    if not any(isinstance(handler, logging.StreamHandler) for handler in logger.handlers):
        lines, errors = logging.StreamHandler(sys.stdout), logging.StreamHandler(sys.stderr)
        lines.addFilter(lambda record: record.levelno < logging.ERROR)
        errors.setLevel(logging.ERROR)
        for handler in (lines, errors):
            handler.setFormatter(logging.Formatter("%(message)s"))
            logger.addHandler(handler)
        # Where Airflow is installed, importing it gives the root logger a handler too: lines would appear twice.
        logger.propagate = False


@contextlib.contextmanager
def log_to_file(path: Path) -> Iterator[None]:
    """Append this project's log lines, with their times, to ``path`` as they come.

    A killed process leaves what it logged, and the next one continues the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("wideloop")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()
