"""Memory beyond weights and KV cache: captured graphs, and the activations of the largest step."""

from __future__ import annotations

from wideloop.manifests.deployment import WorkerSpec
from wideloop.manifests.engines.sglang_defaults import MAX_PREFILL_TOKENS, capture_list
from wideloop.manifests.engines.sglang_flags import captures_decode, dispatch_tokens
from wideloop.manifests.memory import GIB, MemoryConstants, attention_tp, deepep
from wideloop.manifests.model import ModelSpec

#: Decode attention in Triton divides the context of each head into this many parts (``triton_backend.py``).
_KV_SPLITS = 8


def graph_gib(model: ModelSpec, worker: WorkerSpec, max_bs: int, constants: MemoryConstants) -> float:
    """GiB of captured decode graphs up to ``max_bs`` per attention-DP rank, without DeepEP's buffers.

    Buffers of the attention back end for the largest batch (``init_cuda_graph_state``: an int64 per token of
    context, fp32 partial results per head); the tensors and logits of its step, which all graphs share; and what
    CUDA keeps per layer and graph.
    """
    if not captures_decode(worker):
        return 0.0
    heads = model.num_attention_heads / attention_tp(worker)
    # MLA decodes in the space of its latent vector.
    value = model.latent_dim or model.attention_head_dim
    buffers = 8 * model.max_context + 4 * heads * _KV_SPLITS * value
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
    return (_step_bytes(model, worker, tokens, constants) + logits) / GIB


def _step_bytes(model: ModelSpec, worker: WorkerSpec, tokens: int, constants: MemoryConstants) -> float:
    """Tensors that live while one MoE layer runs, for ``tokens`` per attention-DP rank.

    top_k copies of gate and up, their product, and the output. Without DeepEP the ranks' tokens are gathered
    before the experts; with it a rank gets as many from the others as it sends them.
    """
    experts = model.top_k * (3 * model.moe_intermediate_size + model.hidden_size)
    gathered = tokens * worker.layout.dp if worker.knobs.deepep_mode is None else tokens
    return 2 * (gathered * (experts + constants.hidden_tensors * model.hidden_size))
