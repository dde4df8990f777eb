"""What the tests of the local target share: an applier in a process of its own, and looks at what runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from wideloop.manifests.engines.base import Command
from wideloop.operators.settings import Settings
from wideloop.operators.targets.base import Owner, Status
from wideloop.operators.targets.local.process import marked
from wideloop.operators.targets.local.target import LocalTarget

OWNER = Owner(dag_id="wideep_trial", run_id="manual__1")

#: Applies a deployment from a process of its own: HOME MODEL_DIR NAME, after running the code in $BEFORE.
APPLY = """
import os, sys
from pathlib import Path
from tests.unit.operators.targets import fake_engine
from wideloop.manifests.errors import TargetBusy
from wideloop.operators.settings import Settings
from wideloop.operators.targets.base import Owner
from wideloop.operators.targets.local.target import LocalTarget
fake_engine.register()
exec(os.environ.get("BEFORE", ""))
owner = Owner(dag_id="wideep_trial", run_id="manual__1")
here = LocalTarget(Settings(home=Path(sys.argv[1])), grace_s=5)
try:
    here.apply(fake_engine.spec(sys.argv[3], Path(sys.argv[2])), owner)
except TargetBusy as busy:
    sys.exit(3 if busy.name != sys.argv[3] else 4)
"""
KILL_BETWEEN_SPAWN_AND_RECORD = (
    "import wideloop.operators.targets.local.process as p; p._write_json = lambda *_: os.kill(os.getpid(), 9)"
)


def applying(home: Settings, model_path: Path, name: str, before: str = "") -> subprocess.Popen[bytes]:
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "BEFORE": before}
    return subprocess.Popen([sys.executable, "-c", APPLY, str(home.home), str(model_path), name], env=environ)


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.05)


def settled(here: LocalTarget, name: str) -> Status:
    until(lambda: here.status(name).state != "pending")
    return here.status(name)


def pids(home: Settings, name: str) -> dict[str, int]:
    files = (home.local / name).glob("components/*/process.json")
    return {f.parent.name: json.loads(f.read_text())["pid"] for f in files}


def running(home: Settings) -> int:
    return sum(1 for _ in marked(home.local))


def shell(script: str) -> Command:
    return Command(argv=("/bin/sh", "-c", script), env={"OF_THE_CLIENT": "yes"})
