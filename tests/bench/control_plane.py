"""A real API server for measurements: that of the tests, as a process of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from wideloop.operators.bootstrap import PROJECT

from tests.bench.workspace import BenchError, Workspace

_STOP_S = 60.0


@contextlib.contextmanager
def control_plane(workspace: Workspace, *profiles: str) -> Iterator[Path]:
    """The administrator's kubeconfig of a control plane with the nodes of these hardware profiles; gone afterwards.

    Raises:
        BenchError: it cannot be started here, or there is no clone with its tests.
    """
    if not (PROJECT / "tests" / "cluster").is_dir():
        raise BenchError("the control plane is that of the tests: measure in a clone")
    workspace.say("starting a control plane")
    command = [sys.executable, "-m", "tests.cluster", *profiles]
    with (workspace.folder / "control-plane.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=log, env=dict(os.environ))
    try:
        assert process.stdout is not None
        first = process.stdout.readline().decode().strip()
        if not first.startswith("export KUBECONFIG="):
            raise BenchError(f"no control plane: {Path(log.name).read_text()[-1000:]}")
        yield Path(first.partition("=")[2])
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
