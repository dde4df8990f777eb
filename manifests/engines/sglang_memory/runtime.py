"""Memory beyond weights and KV cache: captured graphs, and the activations of the largest step."""

from __future__ import annotations

from wideloop.manifests.deployment import WorkerSpec
from wideloop.manifests.engines.sglang_defaults import MAX_PREFILL_TOKENS, capture_list
from wideloop.manifests.engines.sglang_flags import captures_decode, dispatch_tokens
from wideloop.manifests.memory import GIB, MemoryConstants, attention_tp, deepep
from wideloop.manifests.model import ModelSpec

#: Decode attention in Triton divides the context of each head into this many parts (``triton_backend.py``); with MLA
#: into as many as keep a GPU of up to 256 multiprocessors busy, each of at least 32 tokens.
_KV_SPLITS, _MLA_KV_SPLITS, _MLA_SPLIT_TOKENS = 8, 256, 32


def graph_gib(model: ModelSpec, worker: WorkerSpec, max_bs: int, constants: MemoryConstants) -> float:
    """GiB of captured decode graphs up to ``max_bs`` per attention-DP rank, without DeepEP's buffers.

    Buffers of the attention back end for the largest batch (``init_cuda_graph_state``: an int64 per token of
    context, fp32 partial results per head); the tensors and logits of its step, which all graphs share; and what
    CUDA keeps per layer and graph.
    """
    if not captures_decode(worker):
        return 0.0
    buffers = 8 * model.max_context + _partial_results_bytes(model, worker)
    step = _step_bytes(model, worker, max_bs, constants) + max_bs * (buffers + (4 + 2) * model.vocab_size)
    nodes = constants.graph_node_kib * 1024 * model.num_layers * len(capture_list(max_bs))
    return constants.graph_gib + (step + nodes) / GIB + deepep.masked_gib(model, worker, dispatch_tokens(worker.knobs))


def activation_gib(model: ModelSpec, worker: WorkerSpec, chunk: int, max_bs: int, constants: MemoryConstants) -> float:
    """GiB the largest step needs while it runs: a prefill chunk, or a decode batch on a decode worker.

    ``chunk`` and max_running_requests count the whole worker, as SGLang's flags do, ``max_bs`` one rank. PyTorch's
    allocator keeps up to 1.7 times as much while there is room.
    """
    dp = worker.layout.dp
    if worker.role == "decode":
        tokens = max(-(-(worker.knobs.max_running_requests or 0) // dp), max_bs)
    else:
        tokens = min(chunk // dp, MAX_PREFILL_TOKENS)
    logits = 4 * max_bs * model.vocab_size if worker.role != "prefill" else 0
    # A decode batch beyond the largest graph has buffers of its own.
    eager = max((worker.knobs.max_running_requests or 0) // dp - max_bs, 0) if worker.role != "prefill" else 0
    partial = (max_bs + eager) * _partial_results_bytes(model, worker) if eager else 0
    return (_step_bytes(model, worker, tokens, constants) + logits + partial) / GIB


def _partial_results_bytes(model: ModelSpec, worker: WorkerSpec) -> float:
    """Bytes of one sequence's partial results in decode attention (Triton: ``attn_logits``, fp32 per head and part).

    On two H200 a DeepSeek-V3 shape at TP 2 took 32 MiB per sequence: 16.7 GiB for graphs up to 512.
    """
    heads = model.num_attention_heads / attention_tp(worker)
    # MLA decodes in the space of its latent vector, without the part that holds positions.
    value = model.latent_dim - model.rotary_dim if model.latent_dim else model.attention_head_dim
    splits = _KV_SPLITS
    if model.latent_dim and worker.knobs.attention_backend == "triton":
        parts = -(-model.max_context // _MLA_SPLIT_TOKENS)
        splits = max(_KV_SPLITS, min(_MLA_KV_SPLITS, 1 << (parts - 1).bit_length()))
    return 4 * heads * splits * value


def _step_bytes(model: ModelSpec, worker: WorkerSpec, tokens: int, constants: MemoryConstants) -> float:
    """Tensors that live while one MoE layer runs, for ``tokens`` per attention-DP rank.

    top_k copies of gate and up, their product, and the output. Without DeepEP the ranks' tokens are gathered
    before the experts; with it a rank gets as many from the others as it sends them.
    """
    experts = model.top_k * (3 * model.moe_intermediate_size + model.hidden_size)
    gathered = tokens * worker.layout.dp if worker.knobs.deepep_mode is None else tokens
    return 2 * (gathered * (experts + constants.hidden_tensors * model.hidden_size))
