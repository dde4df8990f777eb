"""How SGLang divides the memory of its KV cache into pools, and the tables that it allocates beside them."""

from __future__ import annotations

import math

from wideloop.manifests.deployment import WorkerSpec
from wideloop.manifests.engines.sglang_windows import has_window_pool
from wideloop.manifests.memory import GIB, MemoryConstants, kv_split
from wideloop.manifests.model import ModelSpec

#: Bounds of SGLang's own number of running requests per attention-DP rank
#: (0.5.17 to 0.5.23, ``mem_cache/kv_cache_configurator.py``, ``resolve_max_num_reqs``).
_MIN_REQUESTS, _MAX_REQUESTS = 2048, 4096
#: Token slots of a request's row beyond the context length (``mem_cache/allocation_sizing.py``).
_EXTRA_CONTEXT = 4
#: Tokens that layers with a window can cache, of those of the other layers (``--swa-full-tokens-ratio``, 0.5.21).
_WINDOW_RATIO = 0.8
#: Memory of states (linear attention, Mamba) as a multiple of the KV cache's (``--mamba-full-memory-ratio``, 0.5.21).
_STATE_RATIO = 0.9
#: GiB of communicators that more ranks cost before loading: free memory is measured after them. Public start logs of
#: 8 (sgl-project/sglang 3416) and 16 ranks (4161, 2746) have 0.6 and 0.8 to 1.0 less than two to four ranks.
_FEW_RANKS, _EIGHT_RANKS_GIB, _DOUBLING_GIB = 4, 0.6, 0.2
#: A single rank has none: 0.83 GiB more than two on an H200 (docs/gpu/pd).
_ALONE_GIB = -0.83


def cell_bytes(model: ModelSpec, worker: WorkerSpec) -> int:
    """Bytes of one token of the KV cache on one GPU (``HybridSWAPoolConfigurator``: windowed layers cache fewer)."""
    ratio = _WINDOW_RATIO if has_window_pool(model) else 1.0
    cell = model.kv_bytes_per_token + ratio * model.window_kv_bytes_per_token
    return max(int(cell / kv_split(model, worker)), 1)


def cache_share(model: ModelSpec) -> float:
    """The part of the memory for caches that holds tokens; states of fixed size take the rest."""
    return 1 / (1 + _STATE_RATIO) if model.state_bytes_per_request and not model.window_tokens else 1.0


def communicators_gib(worker: WorkerSpec) -> float:
    """GiB that the communicators of a worker's ranks take beyond those of a few."""
    ranks = worker.layout.tp
    if ranks == 1:
        return _ALONE_GIB
    if ranks <= _FEW_RANKS:
        return 0.0
    return _EIGHT_RANKS_GIB + _DOUBLING_GIB * math.log2(ranks / (2 * _FEW_RANKS))


def max_requests(model: ModelSpec, worker: WorkerSpec, kv_tokens: int) -> int:
    """Requests that one attention-DP rank runs at a time, as SGLang resolves it."""
    limit = worker.knobs.max_running_requests
    if limit is not None:
        return min(limit // worker.layout.dp, kv_tokens // 2)
    estimate = int(kv_tokens / model.max_context * 512)
    return min(max(min(estimate, _MAX_REQUESTS), _MIN_REQUESTS), kv_tokens // 2)


def request_table_gib(model: ModelSpec, worker: WorkerSpec, kv_tokens: int) -> float:
    """GiB of the table from requests to their tokens: one int32 per token of context (``ReqToTokenPool``)."""
    rows = max_requests(model, worker, kv_tokens) + 1
    return 4 * rows * (model.max_context + _EXTRA_CONTEXT) / GIB


def runtime_gib(kv_tokens: int, constants: MemoryConstants) -> float:
    """GiB of the lists of free token slots and of all other allocations before capture."""
    return constants.runtime_gib + constants.list_bytes_per_token * kv_tokens / GIB
