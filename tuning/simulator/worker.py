"""One simulated worker process: checks whether its memory suffices, then runs the real Dynamo mocker.

    python -m wideloop.tuning.simulator.worker --spec spec.json --role decode ...

Runs in the engine's environment. A configuration that would exhaust a GPU's memory ends this process the
way SGLang ends, with SGLang's log lines.
"""

from __future__ import annotations

import argparse
import os
import runpy
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from wideloop.manifests.deployment import DeploymentSpec
from wideloop.tuning.simulator import failures, ranks
from wideloop.tuning.simulator.addresses import set_host
from wideloop.tuning.simulator.control import Control
from wideloop.tuning.simulator.counters import Counters
from wideloop.tuning.simulator.plan import BLOCK, WorkerPlan
from wideloop.tuning.simulator.rebalancing import Rebalancer
from wideloop.tuning.simulator.recorder import Recorder

#: Requests in flight per attention-DP rank at which a worker without memory for activations ends.
LOAD_REQUESTS_PER_RANK = 2
WATCH_S = 0.25


def main(argv: Sequence[str] | None = None) -> None:
    """Run the worker; returns when the mocker does."""
    args = _parser().parse_args(argv)
    print("SIMULATED worker: no GPU, no weights; the Dynamo mocker timed by wideloop's models", flush=True)
    plan = WorkerPlan.of(DeploymentSpec.model_validate_json(args.spec.read_text()), args.role)
    memory = plan.memory
    print(
        f"SIMULATED memory per GPU: weights {memory.weights_gib:.2f} GiB, KV cache {memory.kv_gib:.2f} GiB "
        f"({memory.kv_tokens} tokens per rank), graphs {memory.graphs_gib:.2f} GiB, "
        f"free at ready {memory.free_at_ready_gib:.2f} GiB; expert imbalance {plan.timing.imbalance:.3f}",
        flush=True,
    )
    if memory.oom_stage not in (None, "under_load"):
        _die(plan)
    if args.node_rank:
        ranks.follow(args.dist_init_addr, args.node_rank, args.nnodes)
    if args.nnodes > 1:
        ranks.gather(args.host, int(args.dist_init_addr.rpartition(":")[2]), args.nnodes)
    args.work_dir.mkdir(parents=True, exist_ok=True)
    table = args.work_dir / "timing.npz"
    plan.write_table(table)
    counters = Counters(args.role, f"http://{args.host}:{args.system_port}", args.shared_dir)
    Control(plan, counters, Recorder(plan, counters, args.work_dir)).serve(args.host, args.control_port)
    if plan.worker.knobs.eplb == "online":
        Rebalancer(plan, counters).start()
    if memory.oom_stage == "under_load":
        threading.Thread(target=_die_under_load, args=(plan, counters), daemon=True).start()
    set_host(args.host)
    os.environ["DYN_SYSTEM_PORT"] = str(args.system_port)
    sys.argv = ["dynamo.mocker", *mocker_arguments(plan, args.model_path, table, args.bootstrap_port)]
    runpy.run_module("dynamo.mocker", run_name="__main__", alter_sys=False)


def mocker_arguments(plan: WorkerPlan, model_path: str, table: Path, bootstrap_port: int | None) -> list[str]:
    """The mocker's command line for ``plan``."""
    chunk = _mocker_chunk(plan)
    options: dict[str, object] = {
        "model-path": model_path,
        "model-name": plan.spec.model.name,
        "engine-type": "sglang",
        "block-size": BLOCK,
        "num-gpu-blocks-override": plan.blocks,
        "data-parallel-size": plan.worker.layout.dp,
        "planner-profile-data": table,
        "max-num-seqs": plan.max_running,
        "max-num-batched-tokens": chunk,
        "sglang-chunked-prefill-size": chunk,
        "max-model-len": plan.spec.model.max_context,
        "kv-bytes-per-token": plan.spec.model.kv_bytes_per_token,
    }
    if plan.worker.role != "aggregated":
        options |= {"disaggregation-mode": plan.worker.role, "kv-transfer-bandwidth": plan.transfer_gb_s}
    if bootstrap_port is not None:
        options["bootstrap-ports"] = bootstrap_port
    return [part for key, value in options.items() for part in (f"--{key}", str(value))] + [
        "--no-enable-prefix-caching"
    ]


def _mocker_chunk(plan: WorkerPlan) -> int:
    """Prefill chunk of one rank that the mocker can run: whole blocks, where 8192 tokens over 72 ranks are 113.

    With 32 ranks Dynamo 1.6.1's mocker answers nothing at 256 and 384 tokens, and answers at 512 and 1024; with 16
    ranks it answers at 256.
    """
    least = 512 if plan.worker.layout.dp > 16 else BLOCK
    return max(plan.chunk // BLOCK * BLOCK, least)


def _die(plan: WorkerPlan) -> None:
    stage = plan.memory.oom_stage
    if stage is not None:
        failures.die(stage, plan.memory, plan.spec.hardware.gpu, plan.worker.knobs.mem_fraction_static or 0.0)


def _die_under_load(plan: WorkerPlan, counters: Counters) -> None:
    """End a worker with too little memory for activations at its first full batch."""
    while counters.inflight() < LOAD_REQUESTS_PER_RANK * plan.worker.layout.dp:
        time.sleep(WATCH_S)
    _die(plan)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spec", type=Path, required=True, help="DeploymentSpec as JSON, resolved")
    parser.add_argument("--role", choices=["prefill", "decode", "aggregated"], required=True)
    parser.add_argument("--model-path", required=True)
    parser.add_argument("--work-dir", type=Path, required=True, help="own files: timing table, recordings")
    parser.add_argument("--shared-dir", type=Path, required=True, help="of the deployment")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--system-port", type=int, required=True, help="the mocker's own HTTP server")
    parser.add_argument("--control-port", type=int, required=True, help="SGLang's routes")
    parser.add_argument("--bootstrap-port", type=int, help="rendezvous of prefill and decode")
    group = parser.add_argument_group("ranks of a worker over several nodes, as Dynamo's operator adds them")
    group.add_argument("--nnodes", type=int, default=1)
    group.add_argument("--node-rank", type=int, default=0)
    group.add_argument("--dist-init-addr", help="host:port where rank 0 waits for the others")
    return parser


if __name__ == "__main__":
    main()
