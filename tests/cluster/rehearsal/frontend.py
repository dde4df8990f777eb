"""The frontend is the real one, with the command line of its pod; only its discovery is by files."""

from __future__ import annotations

import argparse
import os
import runpy
import sys

from wideloop.tuning.simulator.addresses import set_host
from wideloop.tuning.simulator.counters import FRONTEND_FILE

from tests.cluster.rehearsal.shared import use_shared_folder


def main(arguments: list[str]) -> None:
    """Run the frontend; returns when it does."""
    print("REHEARSAL: the real Dynamo frontend before simulated workers", flush=True)
    shared = use_shared_folder()
    ports = argparse.ArgumentParser(add_help=False)
    ports.add_argument("--http-port", default="8000")
    address = os.environ["POD_IP"]
    (shared / FRONTEND_FILE).write_text(f"http://{address}:{ports.parse_known_args(arguments)[0].http_port}\n")
    # It keeps copies of model files below its home, which is removed with the deployment.
    os.environ["HOME"] = str(shared)
    set_host(address)
    sys.argv = ["dynamo.frontend", *arguments]
    runpy.run_module("dynamo.frontend", run_name="__main__", alter_sys=False)
