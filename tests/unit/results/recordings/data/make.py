"""Dump expert recordings with SGLang's own recorder classes, on CPU, for the tests of the reader.

    python make.py OUT        # with sglang 0.5.21 and its imports installed; two processes, gloo

A model of 5 layers (the first dense) and 16 experts with top-8 on 2 ranks of 10 slots each. Which experts each
pass, layer and rank chooses comes from numpy's generator, so that a test can count for itself: see ``chosen``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np

LAYERS, EXPERTS, TOP_K, EP, SLOTS = 5, 16, 8, 2, 20
#: Tokens of each pass: more passes than the ring buffer of ``stat_wrapped`` has rows.
TOKENS = (7, 3, 1, 12, 2, 5)
CASES = {
    "stat": {"mode": "stat", "buffer": 8},
    "stat_wrapped": {"mode": "stat", "buffer": 4},
    "stat_all": {"mode": "stat", "buffer": -1},
    "stat_approx": {"mode": "stat_approx", "buffer": 8, "a2a": "deepep", "deepep": "normal"},
    "stat_low_latency": {"mode": "stat", "buffer": 8, "a2a": "deepep", "deepep": "low_latency"},
    "per_pass": {"mode": "per_pass", "buffer": 8},
    "per_token": {"mode": "per_token", "buffer": 8},
}


def physical_to_logical() -> np.ndarray:
    """[layers, slots]: each layer's experts in an order of its own, four of them twice."""
    random = np.random.default_rng(7)
    return np.stack([random.permutation(np.arange(SLOTS) % EXPERTS) for _ in range(LAYERS)])


def chosen(pass_number: int, layer: int, rank: int) -> np.ndarray:
    """Slots that each token of a rank is sent to, [tokens, top-k]; all ranks the same tokens when ``rank`` is 0."""
    random = np.random.default_rng([pass_number, layer, rank])
    weights = np.random.default_rng([layer]).dirichlet(np.full(SLOTS, 0.5)) + 1e-3
    count = TOKENS[pass_number]
    return np.stack([random.choice(SLOTS, TOP_K, replace=False, p=weights / weights.sum()) for _ in range(count)])


def run(rank: int, port: int, out: str, name: str) -> None:
    """One rank of one case."""
    import torch
    from sglang.srt.environ import envs
    from sglang.srt.eplb import expert_distribution as recorder_module
    from sglang.srt.model_executor.forward_batch_info import ForwardMode
    from sglang.srt.runtime_context import get_context

    case = CASES[name]
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=EP)
    # What the recorder asks its device for, a CPU has not.
    torch.cpu.empty_cache = lambda: None
    torch.cpu.is_current_stream_capturing = lambda: False
    recorder_module.get_device = lambda: "cpu"
    table = torch.from_numpy(physical_to_logical())
    location = SimpleNamespace(
        physical_to_logical_map=table,
        num_layers=LAYERS,
        num_physical_experts=SLOTS,
        num_local_physical_experts=SLOTS // EP,
        num_logical_experts=EXPERTS,
        ep_size=EP,
    )
    asked = {
        "expert_distribution_recorder_mode": case["mode"],
        "expert_distribution_recorder_buffer_size": case["buffer"],
        "moe_a2a_backend": case.get("a2a", "none"),
        "deepep_mode": case.get("deepep", "auto"),
        "chunked_prefill_size": 16,
        "device": "cpu",
        "expert_balancedness_report_mode": "off",
    }
    folder = Path(out) / name
    with (
        get_context().override_server_args(**asked),
        envs.SGLANG_EXPERT_DISTRIBUTION_RECORDER_DIR.override(str(folder)),
    ):
        recorder = recorder_module.ExpertDistributionRecorder.init_new(location, rank)
        recorder.start_record()
        for number, tokens in enumerate(TOKENS):
            batch = SimpleNamespace(
                input_ids=torch.arange(tokens) + 1000 * number,
                positions=torch.arange(tokens),
                extend_seq_lens_cpu=[tokens] if tokens > 4 else None,
                extend_num_tokens=tokens,
                forward_mode=ForwardMode.EXTEND if tokens > 4 else ForwardMode.DECODE,
            )
            with recorder.with_forward_pass(number + 1, batch):
                for layer in range(1, LAYERS):
                    with recorder.with_current_layer(layer):
                        _forward(recorder, case, number, layer, rank)
        recorder.stop_record()
        torch.distributed.barrier()
        recorder.dump_record()
        torch.distributed.barrier()


def _forward(recorder: object, case: dict, number: int, layer: int, rank: int) -> None:
    """What a layer of experts tells the recorder, by dispatcher."""
    import torch

    if "a2a" not in case:
        # Without an all-to-all back end every rank has every token.
        recorder.on_select_experts(topk_ids=torch.from_numpy(chosen(number, layer, 0)).to(torch.int32))
        return
    everywhere = np.concatenate([chosen(number, layer, r) for r in range(EP)])
    counts = np.bincount(everywhere.ravel(), minlength=SLOTS)
    own = counts[rank * SLOTS // EP : (rank + 1) * SLOTS // EP]
    if case["deepep"] == "normal":
        unused = {"num_tokens_per_rank": None, "num_tokens_per_rdma_rank": None, "num_tokens_per_expert": None}
        recorder.on_deepep_dispatch_normal(local_physical_count_of_layer=own.tolist(), **unused)
    else:
        recorder.on_deepep_dispatch_low_latency(local_physical_count_of_layer=torch.from_numpy(own).to(torch.int32))


def main(out: str) -> None:
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    for index, name in enumerate(CASES):
        port = 29600 + index
        ranks = [context.Process(target=run, args=(rank, port, out, name)) for rank in range(EP)]
        for process in ranks:
            process.start()
        for process in ranks:
            process.join()
        if any(process.exitcode for process in ranks):
            raise SystemExit(f"{name} failed")
        # The name carries the time; the rank is what matters.
        for number, file in enumerate(sorted((Path(out) / name).glob("*.pt"), key=lambda f: f.stem.split("_")[-1])):
            file.rename(Path(out) / f"{name}_{number}.pt")
        (Path(out) / name).rmdir()


if __name__ == "__main__":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    main(sys.argv[1])
