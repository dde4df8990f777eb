from __future__ import annotations

import logging
from pathlib import Path

from wideloop.operators.standalone.log import log_to_file


def test_log_lines_are_in_the_file_as_soon_as_they_are_logged(tmp_path: Path):
    file = tmp_path / "report" / "driver.log"
    logger = logging.getLogger("wideloop.operators.standalone.driver")
    with log_to_file(file):
        logger.warning("trial 1: complete")
        assert "WARNING trial 1: complete" in file.read_text()


def test_a_second_run_continues_the_file_of_the_first(tmp_path: Path):
    logger = logging.getLogger("wideloop.operators.standalone.driver")
    for line in ("first", "second"):
        with log_to_file(tmp_path / "driver.log"):
            logger.warning(line)
    logger.warning("afterwards")
    assert [line.split()[-1] for line in (tmp_path / "driver.log").read_text().splitlines()] == ["first", "second"]
