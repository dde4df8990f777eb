"""A worker's knobs as SGLang's server flags and environment variables, for every known version.

Both SGLang engines use this: the native one on a host of GPUs and the one under Dynamo. Each engine adds
host, ports, the transport of KV caches and flags for its environment. The target adds the ranks of a worker over
several nodes (``--nnodes``, ``--node-rank``, ``--dist-init-addr``).
"""

from __future__ import annotations

from wideloop.manifests.deployment import DeploymentSpec, Knobs, WorkerSpec
from wideloop.manifests.engines.sglang_defaults import DISPATCH_TOKENS
from wideloop.manifests.engines.sglang_versions import FlagTable, flag_table

#: Reading a checkpoint of this size takes longer than SGLang's own limits (300 s without progress) allow.
_LARGE_BYTES = 200e9
_LOAD_TIMEOUT_S = 3600


def server_args(spec: DeploymentSpec, worker: WorkerSpec, *, model_path: str, version: str) -> tuple[str, ...]:
    """The SGLang server flags of one worker. They come after the user's, so that these change nothing that is swept.

    Knobs that are ``None`` are left out, so that SGLang chooses.

    Args:
        model_path: where the worker finds the model's files.
        version: SGLang's, e.g. ``0.5.21``.

    Raises:
        Refused: unknown version.
    """
    table = flag_table(version)
    return (
        *("--model-path", model_path, "--served-model-name", spec.model.name),
        *_parallelism(table, worker),
        *_all_to_all(worker.knobs),
        *_experts(worker),
        *_recorder(table, spec, worker),
        *_memory(worker),
        *_cache(worker.knobs),
    )


def replaceable_args(spec: DeploymentSpec, worker: WorkerSpec) -> tuple[str, ...]:
    """Flags that come before the user's, which may replace them: nothing that is swept depends on their values."""
    # For text SGLang would still set 1 GiB of GPU 0 aside to pass images between processes.
    return (*_patience(spec, worker), "--mm-feature-transport", "cpu")


def env(spec: DeploymentSpec, worker: WorkerSpec, *, recordings_dir: str) -> dict[str, str]:
    """The environment variables that go with :func:`server_args`."""
    variables = {"SGLANG_EXPERT_DISTRIBUTION_RECORDER_DIR": recordings_dir} if spec.record_experts else {}
    if worker.knobs.deepep_mode in ("low_latency", "auto"):
        variables["SGLANG_DEEPEP_NUM_MAX_DISPATCH_TOKENS_PER_RANK"] = str(dispatch_tokens(worker.knobs))
    return variables


def kernel_caches(folder: str) -> dict[str, str]:
    """Variables that keep compiled kernels below ``folder``; a cold start compiles for one to ten minutes."""
    return {
        "SGLANG_CACHE_DIR": f"{folder}/sglang",
        "SGLANG_DG_CACHE_DIR": f"{folder}/deep_gemm",
        "TRITON_CACHE_DIR": f"{folder}/triton",
        "TVM_FFI_CACHE_DIR": f"{folder}/tvm_ffi",
    }


def dispatch_tokens(knobs: Knobs) -> int:
    """Tokens per rank that DeepEP's low-latency buffers hold: each captured decode batch must fit in them."""
    return knobs.deepep_dispatch_tokens or max(DISPATCH_TOKENS, knobs.cuda_graph_max_bs or 0)


def captures_decode(worker: WorkerSpec) -> bool:
    """Whether the worker runs decode steps as CUDA graphs: prefill workers and DeepEP's normal mode do not."""
    return worker.role != "prefill" and worker.knobs.deepep_mode != "normal"


def dispatch_algorithm(worker: WorkerSpec) -> str | None:
    """The algorithm by which a rank picks an expert's replica, None when experts are in the model's own order.

    Without an all-to-all back end all ranks must pick the same replica, which only ``dynamic`` does
    (``srt/arg_groups/parallel_hook.py``, ``handle_eplb_and_dispatch``).
    """
    knobs = worker.knobs
    if not knobs.redundant_experts and knobs.expert_placement is None and knobs.eplb != "online":
        return None
    return knobs.dispatch_algorithm or ("dynamic" if knobs.deepep_mode is None else "static")


def _parallelism(table: FlagTable, worker: WorkerSpec) -> tuple[str, ...]:
    layout = worker.layout
    args = ["--tp-size", str(layout.tp)]
    if layout.ep > 1:
        args += ["--ep-size", str(layout.ep)]
    if layout.dp > 1:
        args += [part.format(layout.dp) for part in table.attention_dp]
        # Attention-DP ranks serve different requests: dense layers and head stay whole on each.
        args += ["--moe-dense-tp-size", "1", "--enable-dp-lm-head"]
    return tuple(args)


def _all_to_all(knobs: Knobs) -> tuple[str, ...]:
    """DeepEP when a mode is given; otherwise ranks sum their parts, SGLang's default."""
    deepep = () if knobs.deepep_mode is None else ("--moe-a2a-backend", "deepep", "--deepep-mode", knobs.deepep_mode)
    return (*deepep, *(("--enable-two-batch-overlap",) if knobs.two_batch_overlap else ()))


def _experts(worker: WorkerSpec) -> tuple[str, ...]:
    knobs = worker.knobs
    args: list[str] = []
    if knobs.redundant_experts:
        args += ["--ep-num-redundant-experts", str(knobs.redundant_experts)]
    if knobs.expert_placement is not None:
        args += ["--init-expert-location", knobs.expert_placement]
    if knobs.eplb == "online":
        args += ["--enable-eplb", "--eplb-rebalance-num-iterations", str(knobs.eplb_rebalance_iterations)]
        args += ["--eplb-algorithm", knobs.eplb_algorithm] if knobs.eplb_algorithm else []
    algorithm = dispatch_algorithm(worker)
    if algorithm is not None:
        args += ["--ep-dispatch-algorithm", algorithm]
    return tuple(args)


def _recorder(table: FlagTable, spec: DeploymentSpec, worker: WorkerSpec) -> tuple[str, ...]:
    mode, passes = spec.record_experts, spec.recorded_passes
    online = worker.knobs.eplb == "online"
    if online:
        # Rebalancing reads the recorder and asserts that it holds no more than the passes in between.
        mode, passes = (
            "stat",
            min(DeploymentSpec.model_fields["recorded_passes"].default, worker.knobs.eplb_rebalance_iterations),
        )
    if mode is None:
        return ()
    return (
        *("--expert-distribution-recorder-mode", mode, "--expert-distribution-recorder-buffer-size", str(passes)),
        # Only this report shows the gain of rebalancing. Before 0.5.20 it synchronises the GPU each pass.
        *(table.balancedness if online else ()),
    )


def _memory(worker: WorkerSpec) -> tuple[str, ...]:
    knobs = worker.knobs
    options = {
        "--mem-fraction-static": knobs.mem_fraction_static,
        "--cuda-graph-max-bs-decode": knobs.cuda_graph_max_bs if captures_decode(worker) else None,
        "--chunked-prefill-size": knobs.chunked_prefill_size if worker.role != "decode" else None,
        "--max-running-requests": knobs.max_running_requests,
    }
    return tuple(part for flag, value in options.items() if value is not None for part in (flag, str(value)))


def _cache(knobs: Knobs) -> tuple[str, ...]:
    options = {
        "--max-total-tokens": knobs.max_total_tokens,
        "--context-length": knobs.context_length,
        "--page-size": knobs.page_size,
        "--attention-backend": knobs.attention_backend,
    }
    given = (part for flag, value in options.items() if value is not None for part in (flag, str(value)))
    return (*given, *(() if knobs.radix_cache else ("--disable-radix-cache",)))


def _patience(spec: DeploymentSpec, worker: WorkerSpec) -> tuple[str, ...]:
    if worker.layout.nodes == 1 and spec.model.total_bytes < _LARGE_BYTES:
        return ()
    return ("--dist-timeout", str(_LOAD_TIMEOUT_S), "--watchdog-timeout", str(_LOAD_TIMEOUT_S))
