"""Communication buffers of DeepEP, which SGLang allocates beside the KV cache when the first tokens are dispatched.

Formulas: DeepEP ``csrc/legacy/config.hpp`` (``get_nvl_buffer_size_hint``, ``get_rdma_buffer_size_hint``,
``LowLatencyLayout``) and ``deep_ep/buffers/legacy.py``; which of them SGLang asks for: 0.5.21
``layers/moe/token_dispatcher/deepep.py`` (``get_deepep_buffer``).
"""

from __future__ import annotations

from wideloop.manifests.deployment import WorkerSpec
from wideloop.manifests.memory.constants import GIB
from wideloop.manifests.model import ModelSpec

_SMS = 20
_NVL_PEERS = 8
#: Bytes beside the hidden state of a token: source meta, 128 expert ids (int64) and weights, 128 scales.
_META = 8 + 128 * 8 + 128 * 4 + 128 * 4
#: DeepEP's recommended tokens in flight: ranks -> (NVLink receive, RDMA receive), equal for dispatch and combine.
_RECEIVE = {
    2: 256, 4: 256, 8: 256, 16: 288, 24: 288, 32: 288, 48: 288, 64: 288, 96: 480, 128: 560, 144: 720, 160: 720,
}  # fmt: skip
_RDMA_RECEIVE = 128
#: RDMA receive is rounded up to whole send chunks (tokens; the larger of dispatch's and combine's).
_RDMA_SEND = {16: 20, 24: 8, 32: 8, 48: 8, 64: 8, 96: 12, 128: 12, 144: 12, 160: 12}
#: NVSHMEM takes its heap in pieces of this size (``NVSHMEM_CUMEM_GRANULARITY``, set by DeepEP).
_HEAP_PIECE = 2**29


def buffer_gib(model: ModelSpec, worker: WorkerSpec, dispatch_tokens: int) -> float:
    """GiB per GPU of DeepEP's NVLink and RDMA buffers in the worker's mode; 0 without DeepEP.

    Args:
        dispatch_tokens: tokens per rank that the low-latency mode has room for.
    """
    mode, ranks = worker.knobs.deepep_mode, worker.layout.ep
    if mode is None or ranks == 1:
        return 0.0
    nvlink = rdma = 0
    if mode in ("normal", "auto"):
        nvlink, rdma = nvlink_bytes(model.hidden_size, ranks), rdma_bytes(model.hidden_size, ranks)
    if mode in ("low_latency", "auto"):
        experts = model.num_experts + worker.knobs.redundant_experts
        rdma = max(rdma, low_latency_bytes(dispatch_tokens, model.hidden_size, experts))
    return (nvlink + -(-rdma // _HEAP_PIECE) * _HEAP_PIECE) / GIB


def masked_gib(model: ModelSpec, worker: WorkerSpec, dispatch_tokens: int) -> float:
    """GiB of one layer's tensors in low-latency mode, whose experts each have room for all ranks' tokens.

    Dispatched FP8 rows with scales, gate and up (bf16), their product (FP8), output (bf16): SGLang 0.5.21
    ``layers/moe/moe_runner/deep_gemm.py``, ``_run_masked_gemm``.
    """
    if worker.knobs.deepep_mode not in ("low_latency", "auto"):
        return 0.0
    experts = model.num_experts + worker.knobs.redundant_experts
    rows = experts * dispatch_tokens  # local experts x ranks x tokens
    hidden, inner = model.hidden_size, model.moe_intermediate_size
    return rows * (hidden + hidden // 32 + 2 * 2 * inner + inner + 2 * hidden) / GIB


def low_latency_bytes(tokens: int, hidden: int, experts: int) -> int:
    """``get_low_latency_rdma_size_hint``: two send and two receive buffers with room for every expert."""
    scales = hidden // 128
    dispatch = 16 + max(2 * hidden, hidden + 4 * scales)
    combine = 4 * scales + 2 * hidden
    send = tokens * max(dispatch, experts * combine)
    receive = tokens * experts * max(dispatch, combine)
    signals = -(-4 * experts // 128) * 128
    total = 2 * (send + receive + signals)
    return (total + 128) // 128 * 128


def nvlink_bytes(hidden: int, ranks: int) -> int:
    """``get_nvl_buffer_size_hint`` for 16-bit hidden states."""
    nodes, peers, channels = max(ranks // _NVL_PEERS, 1), min(ranks, _NVL_PEERS), _SMS // 2
    per_channel = (2 * nodes + 3) * 4 + _receive(ranks) * (2 * hidden + _META)
    return -(-channels * peers * per_channel // 128) * 128


def rdma_bytes(hidden: int, ranks: int) -> int:
    """``get_rdma_buffer_size_hint`` for 16-bit hidden states; none inside one node."""
    if ranks <= _NVL_PEERS:
        return 0
    nodes, channels = ranks // _NVL_PEERS, _SMS // 2
    send = _RDMA_SEND[_nearest(ranks, tuple(_RDMA_SEND))]
    receive = -(-_RDMA_RECEIVE // send) * send
    per_channel = (_NVL_PEERS * 2 + 2) * 2 * 4 + 2 * receive * (2 * hidden + _META + 16)
    return -(-channels * nodes * per_channel // 128) * 128


def _receive(ranks: int) -> int:
    return _RECEIVE[_nearest(ranks, tuple(_RECEIVE))]


def _nearest(ranks: int, known: tuple[int, ...]) -> int:
    """DeepEP has no recommendation for other rank counts and would refuse them: the next larger count's is used."""
    return next((k for k in known if k >= ranks), known[-1])
