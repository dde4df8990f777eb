"""SGLang's own choices for knobs that are not given.

Read in SGLang 0.5.23, ``srt/arg_groups/memory_hook.py`` and ``cuda_graph_hook.py``; all sizes there are
in MiB, and GPU memory is what the driver reports as total.
"""

from __future__ import annotations

from wideloop.manifests.deployment import DeploymentSpec, Knobs, WorkerSpec
from wideloop.manifests.engines import sglang_versions
from wideloop.manifests.hardware import GpuSpec, Role

#: (GPU memory below, GiB; chunked prefill size; decode graph max batch for TP < 4; for TP >= 4)
_BY_MEMORY = (
    (20, 2048, 8, 8),
    (35, 2048, 24, 80),
    (60, 4096, 32, 160),
    (90, 8192, 256, 512),
    (160, 8192, 256, 512),
    (float("inf"), 16384, 512, 512),
)
#: GPUs above this many GiB keep at least 10 GiB aside.
_LARGE_GPU_GIB = 60
_LARGE_GPU_RESERVE_MIB = 10 * 1024
_DEEPEP_DECODE_MIB = 2048
_DEEPEP_MODES: dict[Role, str] = {"prefill": "normal", "decode": "low_latency", "aggregated": "auto"}
#: SGLang's default of the tokens that DeepEP's low-latency mode dispatches per rank at most.
DISPATCH_TOKENS = 128
#: ``--max-prefill-tokens``: a scheduler takes no more prompt tokens into one step, whatever the chunk.
MAX_PREFILL_TOKENS = 16384
#: Largest number of tokens in DeepEP's counter (``srt/layers/moe/token_dispatcher/deepep.py``).
MAX_DISPATCH_TOKENS = 1024
#: The largest page of the KV cache that an attention back end for these models sets by itself (CUTLASS MLA); a chunk
#: must be whole pages.
PAGE_TOKENS = 128
#: Model classes that dispatch tokens through DeepEP, of those that are served often (``srt/models``, 0.5.17 to 0.5.23).
DEEPEP_ARCHITECTURES = frozenset(
    {
        *("DeepseekV2ForCausalLM", "DeepseekV3ForCausalLM", "DeepseekV32ForCausalLM", "Glm4MoeForCausalLM"),
        *("Qwen2MoeForCausalLM", "Qwen3MoeForCausalLM", "BailingMoeV2ForCausalLM", "MiniMaxM2ForCausalLM"),
    }
)
_MIN_TOKENS = 2048
MIN_FRACTION = 0.01


def _row(gpu: GpuSpec) -> tuple[float, int, int, int]:
    return next(row for row in _BY_MEMORY if gpu.memory_gib < row[0])


def chunked_prefill_size(gpu: GpuSpec) -> int:
    """Tokens of one prefill chunk of the whole worker; under attention DP every rank gets its share of it."""
    return _row(gpu)[1]


def cuda_graph_max_bs(gpu: GpuSpec, tp: int) -> int:
    """Largest captured decode batch per attention-DP rank."""
    _, _, small_tp, large_tp = _row(gpu)
    return small_tp if tp < 4 else large_tp


def capture_list(max_bs: int) -> tuple[int, ...]:
    """Decode batch sizes that get a CUDA graph: [1, 2, 4, 8, 12], then steps of 8, 16, 32, up to ``max_bs``."""
    sizes = [1, 2, 4, 8, 12, *range(16, 257, 8), *range(272, 513, 16), *range(544, max(max_bs, 544) + 1, 32)]
    return tuple(sorted({*(s for s in sizes if s <= max_bs), max_bs}))


def mem_fraction_static(gpu: GpuSpec, worker: WorkerSpec) -> float:
    """SGLang's guess of the fraction of GPU memory for weights and KV cache together, three decimals.

    ``worker.knobs`` must have chunked_prefill_size and cuda_graph_max_bs set.
    """
    knobs, layout = worker.knobs, worker.layout
    chunk, max_bs = knobs.chunked_prefill_size, knobs.cuda_graph_max_bs
    if chunk is None or max_bs is None:
        raise ValueError("chunked_prefill_size and cuda_graph_max_bs must be resolved first")
    decode = worker.role == "decode"
    tokens = max((knobs.max_running_requests or 0) if decode else chunk, _MIN_TOKENS)
    graph = 0.0 if worker.role == "prefill" else 2.0 * max_bs
    if layout.dp > 1 and worker.role != "prefill":
        graph += 3.0 * max_bs * layout.dp + (1.5 * max_bs * layout.dp if max_bs > 300 else 0)
    reserved = 512 + 1.5 * tokens + layout.tp / 8 * 1024 + graph
    if gpu.memory_gib > _LARGE_GPU_GIB:
        reserved = max(reserved, _LARGE_GPU_RESERVE_MIB)
    if decode and knobs.deepep_mode is not None:
        reserved += _DEEPEP_DECODE_MIB
    total = gpu.memory_gib * 1024
    # With hundreds of ranks the allowance exceeds the GPU: SGLang would then refuse to start, as do the memory checks.
    return max(round((total - reserved) / total, 3), MIN_FRACTION)


def with_deepep(spec: DeploymentSpec, worker: WorkerSpec) -> WorkerSpec:
    """``worker`` with DeepEP in the mode of its role where it needs it; a mode that is set already stays.

    It is needed between nodes, where only what a token's experts need is sent; inside a node ranks could sum their
    parts over NVLink. It is also needed where tokens follow placed experts with DeepEP only. Prefill sends many tokens
    at once ("normal"), decode sends few tokens under CUDA graphs ("low_latency"). An aggregated worker needs "auto",
    which cannot be recorded, so that inside a node it goes without.
    """
    follows = worker.role != "aggregated" and tokens_follow_by_deepep(spec, worker)
    if worker.knobs.deepep_mode is not None or (worker.layout.nodes == 1 and not follows):
        return worker
    mode = _DEEPEP_MODES[worker.role]
    return worker.changed(knobs=worker.knobs.changed(deepep_mode=mode))


def tokens_follow_by_deepep(spec: DeploymentSpec, worker: WorkerSpec) -> bool:
    """Whether DeepEP can send the worker's tokens after placed experts, and nothing else in this version does."""
    version = spec.engine_version or sglang_versions.DEFAULT_VERSION
    if worker.layout.ep == 1 or worker.layout.ep != worker.layout.tp or sglang_versions.version_finding(version):
        return False
    # The experts' kernels behind DeepEP are DeepGEMM's, for block-scaled FP8.
    dispatches = spec.model.architecture in DEEPEP_ARCHITECTURES and bool(spec.model.scale_block)
    return dispatches and not sglang_versions.flag_table(version).remaps


def resolve(gpu: GpuSpec, worker: WorkerSpec) -> Knobs:
    """``worker.knobs`` with SGLang's own choice for memory fraction, graph batch and prefill chunk.

    In DeepEP's low-latency mode SGLang's choice of the graph batch would exceed the tokens that DeepEP dispatches, and
    fail: there the graph batch is that number of tokens.
    """
    graph = cuda_graph_max_bs(gpu, worker.layout.tp)
    if worker.knobs.deepep_mode in ("low_latency", "auto"):
        graph = min(graph, worker.knobs.deepep_dispatch_tokens or DISPATCH_TOKENS)
    knobs = worker.knobs.changed(
        chunked_prefill_size=worker.knobs.chunked_prefill_size or chunked_prefill_size(gpu),
        cuda_graph_max_bs=worker.knobs.cuda_graph_max_bs or graph,
    )
    if knobs.mem_fraction_static is not None:
        return knobs
    return knobs.changed(mem_fraction_static=mem_fraction_static(gpu, worker.changed(knobs=knobs)))
