"""What the performance model says of a measured load, and the constants with which it says it best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from manifests.hardware import HardwareProfile
from tuning.calibration.loads import Load
from tuning.memory.runtime import MAX_PREFILL_TOKENS
from tuning.performance import CONSTANTS, Constants, WorkerModel

#: What is fitted. Link and attention efficiencies are not: prefill on two GPUs cannot tell them from grouped_matmul.
FITTED = ("grouped_matmul", "hbm", "graph_layer_ms", "sequence_ms")
#: What the model said before it met a measured load: guessed from single runs, no time per sequence.
BEFORE = replace(CONSTANTS, grouped_matmul=0.33, hbm=0.80, graph_layer_ms=0.09, sequence_ms=0.0)


def predict(load: Load, hardware: HardwareProfile, constants: Constants = CONSTANTS) -> float:
    """What :attr:`Load.measured` should be. Prefill ran without CUDA graphs on these servers.

    A trial's batch is what is asked for or what the KV cache holds, and its prompts take their share of the time.
    """
    worker = load.server.worker
    model = WorkerModel(
        load.server.model, hardware, worker, load.popularity, load.placement, constants, prefill_graphs=False
    )
    chunk = min(worker.knobs.chunked_prefill_size or MAX_PREFILL_TOKENS, MAX_PREFILL_TOKENS)
    if load.kind == "prefill":
        return chunk / float(model.prefill_ms(chunk)) * 1000
    context = load.isl + load.osl / 2
    if load.kind == "decode":
        return float(model.decode_ms(load.concurrency, context))
    batch = min(load.concurrency, (load.server.kv_tokens or 0) / (load.isl + load.osl))
    prompts = batch * load.isl / chunk * float(model.prefill_ms(chunk))
    steps = load.osl * float(model.decode_ms(batch, context))
    return batch * load.osl / (prompts + steps) * 1000


def split(loads: Sequence[Load]) -> tuple[list[Load], list[Load]]:
    """Loads of every other server to fit to, those of the rest to judge by."""
    servers = list(dict.fromkeys(load.server.name for load in loads))
    used = set(servers[::2])
    return [x for x in loads if x.server.name in used], [x for x in loads if x.server.name not in used]


def errors(loads: Sequence[Load], hardware: HardwareProfile, constants: Constants) -> list[float]:
    """Predicted over measured, minus one."""
    return [predict(load, hardware, constants) / load.measured - 1 for load in loads]


def fit(loads: Sequence[Load], hardware: HardwareProfile) -> Constants:
    """The constants of :data:`FITTED` with the least squared relative error on ``loads``, large misses damped.

    Raises:
        ValueError: there are fewer loads than constants.
    """
    from scipy.optimize import least_squares

    if len(loads) < len(FITTED):
        raise ValueError(f"{len(loads)} loads cannot determine {len(FITTED)} constants: give at least that many")

    def residuals(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> list[float]:
        constants = _with(values)
        return [float(np.log(predict(load, hardware, constants) / load.measured)) for load in loads]

    start, bounds = [0.33, 0.80, 0.09, 0.005], ([0.05, 0.3, 0.01, 0.0], [0.95, 0.98, 0.5, 0.1])
    found = least_squares(residuals, start, bounds=bounds, loss="soft_l1", f_scale=0.1, x_scale=start)
    return _with(found.x)


def _with(values: Sequence[float] | np.ndarray[tuple[int], np.dtype[np.float64]]) -> Constants:
    changed: dict[str, Any] = dict(zip(FITTED, map(float, values), strict=True))
    return replace(CONSTANTS, **changed)
