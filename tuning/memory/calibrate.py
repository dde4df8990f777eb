"""Fit the memory model's constants to servers that ran, and compute its errors on other servers."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from wideloop.manifests.engines import get_engine
from wideloop.manifests.hardware import GpuSpec
from wideloop.manifests.memory import GIB, MemoryConstants
from wideloop.tuning.memory.measured import Server

#: Compared quantities: name, attribute of the prediction, attribute of the measurement.
PARTS = {
    "weights": ("weights_gib", "weights_gib"),
    "KV cache": ("kv_gib", "kv_gib"),
    "graphs": ("graphs_gib", "graph_gib"),
    "free at ready": ("free_at_ready_gib", "free_gib"),
}


def fit(servers: Sequence[Server], gpu: GpuSpec) -> MemoryConstants:
    """The constants that explain ``servers`` best; constants that these servers cannot determine stay unchanged.

    Args:
        servers: all of one engine.

    Raises:
        ValueError: none of them became ready.
    """
    ready = [s for s in servers if s.ready]
    if not ready:
        raise ValueError("none of the servers became ready: there is nothing to fit to")
    shipped = ready[0].memory_model.constants
    hidden = _hidden_tensors(ready, gpu)
    constants = replace(shipped, hidden_tensors=hidden if hidden is not None else shipped.hidden_tensors)
    runtime, per_token = _tables(ready, gpu)
    graph, node = _graphs(ready, constants)
    nccl = _nccl(ready, gpu)
    return replace(
        constants,
        runtime_gib=runtime,
        list_bytes_per_token=per_token,
        graph_gib=graph,
        graph_node_kib=node,
        nccl_gib=nccl if nccl is not None else shipped.nccl_gib,
    )


def split(servers: Sequence[Server]) -> tuple[list[Server], list[Server]]:
    """Every other server to fit to, the rest to judge by."""
    return list(servers[::2]), list(servers[1::2])


def errors(servers: Sequence[Server], gpu: GpuSpec, constants: MemoryConstants) -> dict[str, list[float]]:
    """Absolute errors in GiB of each of :data:`PARTS`, over the servers where it was measured."""
    by_part: dict[str, list[float]] = {part: [] for part in PARTS}
    for server in servers:
        if not server.valid:
            continue
        memory = server.predicted(gpu, constants)
        for part, (predicted, measured) in PARTS.items():
            value = getattr(server, measured)
            if value is not None:
                by_part[part].append(abs(getattr(memory, predicted) - value))
    return by_part


def _tables(servers: Sequence[Server], gpu: GpuSpec) -> tuple[float, float]:
    """Allocations between loading and capture: fixed GiB, and bytes per KV token."""
    left, tokens = [], []
    for s in servers:
        if s.kv_gib is None or s.weights_gib is None or s.graph_gib is None or s.free_gib is None or not s.kv_tokens:
            continue
        beside = gpu.usable_gib - s.weights_gib - s.kv_gib - s.graph_gib - s.free_gib
        left.append(beside - s.memory_model.request_table_gib(s.model, s.worker, s.kv_tokens))
        tokens.append(s.kv_tokens / GIB)
    return _line(tokens, left)


def _graphs(servers: Sequence[Server], constants: MemoryConstants) -> tuple[float, float]:
    """Memory of the graphs beyond their known tensors: fixed GiB, and KiB per layer and captured size."""
    without_graphs = replace(constants, graph_gib=0.0, graph_node_kib=0.0)
    left, nodes = [], []
    for s in servers:
        max_bs = s.worker.knobs.cuda_graph_max_bs or 0
        if s.graph_gib is not None:
            left.append(s.graph_gib - s.memory_model.having(without_graphs).graphs_gib(s.model, s.worker, max_bs))
            nodes.append(s.model.num_layers * len(get_engine(s.engine).capture_sizes(max_bs)) / 2**20)
    return _line(nodes, left)


def _hidden_tensors(servers: Sequence[Server], gpu: GpuSpec) -> float | None:
    """Hidden-sized tensors per token that explain the least growth under load.

    The allocator keeps fragmented memory, so equal steps grow differently: only the smallest growth is needed memory.
    """
    implied = []
    for s in servers:
        if s.growth_gib is None:
            continue
        none, one = (
            s.predicted(gpu, replace(s.memory_model.uncalibrated, hidden_tensors=n)).activations_gib for n in (0.0, 1.0)
        )
        implied.append((s.growth_gib - none) / (one - none))
    return min(implied, default=None)


def _nccl(servers: Sequence[Server], gpu: GpuSpec) -> float | None:
    """GiB that stay allocated after the warm-up request."""
    taken = [
        s.mib_ready / 1024 - (gpu.memory_gib - s.free_gib)
        for s in servers
        if s.mib_ready is not None and s.free_gib is not None
    ]
    return statistics.median(taken) if taken else None


def _line(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Intercept and slope of the least-squares line; with one x only, the slope is 0."""
    if len(set(x)) < 2:
        return (statistics.fmean(y), 0.0) if y else (0.0, 0.0)
    slope, intercept = np.polyfit(x, y, 1)
    return float(intercept), float(slope)
