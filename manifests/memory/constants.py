"""Constants of a memory model that no formula gives, fitted to servers that ran (``tuning.memory.calibrate``)."""

from __future__ import annotations

from dataclasses import dataclass

GIB = 2**30


@dataclass(frozen=True)
class MemoryConstants:
    """Fitted constants; GiB are per GPU.

    Attributes:
        runtime_gib: allocations between loading and capture beyond the terms below.
        list_bytes_per_token: lists of free slots and their copies; the pool itself has one int64 per KV token.
        graph_gib: fixed cost of capture, whatever the sizes.
        graph_node_kib: cost of one layer in one captured graph.
        hidden_tensors: 16-bit tensors of the hidden size that live with the experts' while one MoE layer runs.
        nccl_gib: NCCL's channels, allocated by the first collectives of the warm-up request.
        warm_up_gib: other memory of that request. The measured servers do not identify it: one with nothing left
            ran out of memory, the next had 2 GiB left.
    """

    runtime_gib: float
    list_bytes_per_token: float
    graph_gib: float
    graph_node_kib: float
    hidden_tensors: float
    nccl_gib: float
    warm_up_gib: float = 0.1
