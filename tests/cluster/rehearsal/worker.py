"""A worker of the real engine's pod: its command line parsed and judged, then served by the simulated engine."""

from __future__ import annotations

import os
import sys
from typing import Any, NoReturn

from wideloop.manifests.kubernetes.pods import SIMULATED_VARIABLE

from tests.cluster.rehearsal.ask import ask
from tests.cluster.rehearsal.checks import problems, role
from tests.cluster.rehearsal.description import Description
from tests.cluster.rehearsal.shared import SPEC_FILE, deployment_spec, files_folder, use_shared_folder

#: The mocker's own HTTP server, beside the one of Dynamo's worker.
_MOCKER_PORT = 9091
_SYSTEM_PORT = 9090


def main(arguments: list[str], description: Description) -> None:
    """Run the worker; returns when the mocker does."""
    print("REHEARSAL: no GPU, no weights; nothing that is measured here is a measurement", flush=True)
    if os.environ.get(SIMULATED_VARIABLE) != "true":
        _end(f"{SIMULATED_VARIABLE} is not set: results would not be marked. Set WIDELOOP_CLUSTER__SIMULATED=true")
    answer = ask(description.parser, arguments)
    if "error" in answer:
        # As argparse ends: the parser's own line, status 2.
        _end(answer["error"], 2)
    parsed, spec = answer["parsed"], deployment_spec()
    wrong = problems(parsed, os.environ, spec)
    if wrong:
        _end("\n".join(f"ValueError: {problem}" for problem in wrong))
    print(f"REHEARSAL: SGLang {description.sglang} and Dynamo understand all {len(arguments)} arguments", flush=True)
    _serve(parsed, spec.name)


def _serve(parsed: dict[str, Any], deployment: str) -> None:
    rank, ranks = int(parsed["node_rank"]), int(parsed["nnodes"])
    if rank:
        from wideloop.tuning.simulator.ranks import follow

        follow(parsed["dist_init_addr"], rank, ranks)
    from wideloop.tuning.simulator import worker as simulated

    from tests.cluster.rehearsal.routes import SystemServer

    SystemServer.descriptors = tuple(parsed["engine_routes"])
    simulated.Control = SystemServer  # type: ignore[misc]
    shared = use_shared_folder()
    own = os.environ.get("SGLANG_EXPERT_DISTRIBUTION_RECORDER_DIR")
    options: dict[str, object] = {
        "--spec": SPEC_FILE,
        "--role": role(parsed),
        "--model-path": parsed["model_path"],
        "--work-dir": own or files_folder(role(parsed), os.environ["POD_NAME"]),
        "--shared-dir": shared,
        "--host": os.environ["POD_IP"],
        "--system-port": _MOCKER_PORT,
        "--control-port": _SYSTEM_PORT,
        "--nnodes": ranks,
        "--node-rank": rank,
    }
    if ranks > 1:
        options["--dist-init-addr"] = parsed["dist_init_addr"]
    if parsed["disaggregation_mode"] == "prefill":
        options["--bootstrap-port"] = parsed["disaggregation_bootstrap_port"]
    simulated.main([str(part) for pair in options.items() for part in pair])


def _end(reason: str, status: int = 1) -> NoReturn:
    print(reason, file=sys.stderr, flush=True)
    sys.exit(status)
