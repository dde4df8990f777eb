"""Predictions of the performance model for measured loads, and the fit of its constants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from wideloop.manifests.engines import get_engine
from wideloop.manifests.hardware import HardwareProfile
from wideloop.tuning.calibration.loads import Load
from wideloop.tuning.calibration.variants import SHIPPED, Variant

#: Fitted constants with start and bounds. Efficiencies of matrix products, attention and links are not fitted: prefill
#: on two GPUs cannot separate them from row_passes.
FITTED = {
    "hbm": (0.87, 0.3, 0.98),
    "graph_layer_ms": (0.09, 0.01, 0.5),
    "sequence_ms": (0.003, 0.0, 0.1),
    "eager_layer_ms": (2.2, 0.5, 5.0),
    "row_passes": (30.0, 0.0, 200.0),
}


def predict(load: Load, hardware: HardwareProfile, variant: Variant = SHIPPED) -> float:
    """The predicted value of :attr:`Load.measured`. Prefill ran without CUDA graphs on these servers.

    A trial runs in waves of the requested batch, or of the batch that the KV cache holds: all prompts, then all decode
    steps. While one request of a closed loop is answered, every other request ends and a new one starts, so that the
    tokens of the first wait for all other prompts.
    """
    worker, engine = load.server.worker, get_engine(load.server.engine)
    model = variant.model(
        load.server.model,
        hardware,
        worker,
        load.popularity,
        load.placement,
        variant.constants,
        engine=engine,
        prefill_graphs=False,
    )
    chunk = min(worker.knobs.chunked_prefill_size or engine.max_prefill_tokens, engine.max_prefill_tokens)
    if load.kind == "prefill":
        return chunk / float(model.prefill_ms(chunk)) * 1000
    context = load.isl + load.osl / 2
    if load.kind in ("step", "decode"):
        step = float(model.decode_ms(load.concurrency, context))
        if load.kind == "step" or not variant.prompts_between:
            return step
        others = (load.concurrency - 1) * load.isl / chunk * float(model.prefill_ms(chunk))
        return step + others / load.osl
    batch = resident(load)
    prompts = batch * load.isl / chunk * float(model.prefill_ms(chunk))
    steps = load.osl * float(model.decode_ms(batch, context))
    return batch * load.osl / (prompts + steps) * 1000


def resident(load: Load) -> float:
    """Requests that a trial's server decodes at once: its concurrency, or what the KV cache holds."""
    return min(load.concurrency, (load.server.kv_tokens or 0) / (load.isl + load.osl))


def eager(load: Load) -> bool:
    """Whether the load's decode steps ran without CUDA graphs."""
    batch = resident(load) if load.kind == "trial" else load.concurrency
    return load.kind != "prefill" and batch > (load.server.worker.knobs.cuda_graph_max_bs or 1)


def split(loads: Sequence[Load]) -> tuple[list[Load], list[Load]]:
    """Two sets: the loads of every other server by start order, to fit to, and the other loads, to validate with."""
    servers = list(dict.fromkeys(load.server.name for load in loads))
    used = set(servers[::2])
    return [x for x in loads if x.server.name in used], [x for x in loads if x.server.name not in used]


def errors(loads: Sequence[Load], hardware: HardwareProfile, variant: Variant = SHIPPED) -> list[float]:
    """Predicted over measured, minus one."""
    return [predict(load, hardware, variant) / load.measured - 1 for load in loads]


def fit(loads: Sequence[Load], hardware: HardwareProfile, variant: Variant = SHIPPED) -> Variant:
    """``variant`` with the constants of :data:`FITTED` whose squared relative error is least, large misses damped.

    Raises:
        ValueError: there are fewer loads than constants.
    """
    from scipy.optimize import least_squares

    if len(loads) < len(FITTED):
        raise ValueError(f"{len(loads)} loads cannot determine {len(FITTED)} constants: give at least that many")

    keys = [load.alike for load in loads]
    kinds = dict(zip(keys, loads, strict=True))

    def residuals(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> list[float]:
        changed = _with(variant, values)
        predictions = {key: predict(load, hardware, changed) for key, load in kinds.items()}
        return [float(np.log(predictions[key] / load.measured)) for key, load in zip(keys, loads, strict=True)]

    start, low, high = zip(*FITTED.values(), strict=True)
    solution = least_squares(
        residuals, start, bounds=(low, high), loss="soft_l1", f_scale=0.1, x_scale=start, ftol=1e-4, xtol=1e-4
    )
    return _with(variant, solution.x)


def _with(variant: Variant, values: Sequence[float] | np.ndarray[tuple[int], np.dtype[np.float64]]) -> Variant:
    changed: dict[str, Any] = dict(zip(FITTED, map(float, values), strict=True))
    return replace(variant, constants=replace(variant.constants, **changed))
