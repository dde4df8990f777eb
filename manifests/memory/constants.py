"""The numbers of a memory model that no formula gives: fitted to servers that ran (``memory.calibrate`` of tuning)."""

from __future__ import annotations

from dataclasses import dataclass

GIB = 2**30


@dataclass(frozen=True)
class MemoryConstants:
    """GiB are per GPU.

    Attributes:
        runtime_gib: allocated between loading and capture that nothing below accounts for.
        list_bytes_per_token: lists of free slots and their copies; the pool's own is one int64 per KV token.
        graph_gib: capture at any size.
        graph_node_kib: one layer in one captured graph.
        hidden_tensors: 16-bit tensors of the hidden size that live with the experts' while one MoE layer runs.
        nccl_gib: NCCL's channels, allocated by the first collectives of the warm-up request.
        warm_up_gib: what that request needs beside them. Not identifiable from the servers seen: one with nothing
            left died, the next had 2 GiB.
    """

    runtime_gib: float
    list_bytes_per_token: float
    graph_gib: float
    graph_node_kib: float
    hidden_tensors: float
    nccl_gib: float
    warm_up_gib: float = 0.1
