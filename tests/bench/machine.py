"""Where and of what a figure was measured: without it no two are comparable."""

from __future__ import annotations

import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import psutil
from wideloop.operators.bootstrap import PROJECT

#: Share of the machine's CPU that others may use before a measurement counts as disturbed.
QUIET_PERCENT = 10.0
_GIB = 1024**3


def description() -> str:
    """Date, commit, processors, memory and Python, e.g. for the line above a table."""
    memory = psutil.virtual_memory().total / _GIB
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {commit()}, {psutil.cpu_count()} cores ({_processor()}), "
        f"{memory:.1f} GiB memory, {platform.system()} {platform.release()}, Python {platform.python_version()}"
    )


def commit() -> str:
    """Short hash of the project's commit; says when files differ from it, ``unknown`` outside a clone."""
    head = _git("rev-parse", "--short", "HEAD")
    if not head:
        return "unknown"
    # The document that is being written is no change of what is measured.
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs/bench.md")
    return head + (" with changes" if changed else "")


def busy_percent(seconds: float = 3.0) -> float:
    """Share of all cores in use over the next ``seconds``: what others do while we do nothing."""
    return psutil.cpu_percent(interval=seconds)


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=PROJECT, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
