"""Run the real Dynamo frontend and write its address to a file for the simulated workers."""

from __future__ import annotations

import argparse
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from wideloop.tuning.simulator.addresses import set_host
from wideloop.tuning.simulator.counters import FRONTEND_FILE


def main(argv: Sequence[str] | None = None) -> None:
    """Run the frontend; returns when it does."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--shared-dir", type=Path, required=True)
    args = parser.parse_args(argv)
    print("SIMULATED deployment: the real Dynamo frontend before simulated workers", flush=True)
    args.shared_dir.mkdir(parents=True, exist_ok=True)
    (args.shared_dir / FRONTEND_FILE).write_text(f"http://{args.host}:{args.port}\n")
    set_host(args.host)
    sys.argv = ["dynamo.frontend", "--http-host", args.host, "--http-port", str(args.port)]
    runpy.run_module("dynamo.frontend", run_name="__main__", alter_sys=False)


if __name__ == "__main__":
    main()
