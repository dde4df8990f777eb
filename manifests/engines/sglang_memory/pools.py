"""The tables that SGLang allocates beside the KV cache once the weights are loaded."""

from __future__ import annotations

from wideloop.manifests.deployment import WorkerSpec
from wideloop.manifests.memory import GIB, MemoryConstants
from wideloop.manifests.model import ModelSpec

#: Bounds of SGLang's own number of running requests per attention-DP rank
#: (0.5.17 to 0.5.23, ``mem_cache/kv_cache_configurator.py``, ``resolve_max_num_reqs``).
_MIN_REQUESTS, _MAX_REQUESTS = 2048, 4096
#: Token slots of a request's row beyond the context length (``mem_cache/allocation_sizing.py``).
_EXTRA_CONTEXT = 4


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
