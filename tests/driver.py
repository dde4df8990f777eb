"""The driver without Airflow as a command, in a home of its own, for tests of whole cycles."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wideloop.operators.settings import Settings


def make_home(folder: Path, request: Mapping[str, Any]) -> Path:
    """Make ``folder`` a home with the environments of this project and ``request`` as its request.json."""
    (folder / "venvs").symlink_to(Settings().environments)
    (folder / "request.json").write_text(json.dumps(request))
    return folder


def drive(
    home: Path, *options: str, run: str = "one", python_path: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run what is left of the cycle ``run``; ``python_path`` holds packages that are not installed."""
    command = [sys.executable, "-m", "wideloop.operators.standalone", str(home / "request.json"), "--run", "one"]
    environ = {k: v for k, v in os.environ.items() if not k.startswith("WIDELOOP_")} | {"WIDELOOP_HOME": str(home)}
    if python_path is not None:
        environ["PYTHONPATH"] = str(python_path)
    return subprocess.run([*command, *options], env=environ, capture_output=True, text=True, check=False, timeout=600)
