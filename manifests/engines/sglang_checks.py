"""Checks of what SGLang would refuse only after loading a model for minutes, or would silently do wrong.

Each rule names the assertion or the code it stands for; read in 0.5.17 to 0.5.23.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from wideloop.manifests.deployment import DeploymentSpec, WorkerSpec
from wideloop.manifests.engines import sglang_versions
from wideloop.manifests.engines.sglang_defaults import MAX_DISPATCH_TOKENS, MAX_PREFILL_TOKENS, PAGE_TOKENS
from wideloop.manifests.engines.sglang_flags import dispatch_tokens
from wideloop.manifests.engines.sglang_windows import transfer_findings
from wideloop.manifests.findings import Finding
from wideloop.manifests.model import ModelSpec

#: With fewer tokens of a prefill chunk per rank, matrix multiplications do not fill the GPU.
_SMALL_CHUNK = 1024
#: Models whose own code hands a placement to the router, without an all-to-all back end, only while EPLB is online.
_REMAPS_ONLINE = ("DeepseekV2ForCausalLM", "DeepseekV3ForCausalLM")


def sglang_findings(spec: DeploymentSpec, repaired: Collection[str] = ()) -> list[Finding]:
    """Findings of SGLang's own rules and versions about ``spec``, beyond the rules of every engine.

    ``repaired``: architectures whose routing follows the placement in every version, through this project's classes.
    """
    unknown_version = sglang_versions.version_finding(spec.engine_version or sglang_versions.DEFAULT_VERSION)
    if unknown_version is not None:
        return [unknown_version]
    findings: list[Finding] = [*transfer_findings(spec)]
    for worker in spec.workers:
        findings += [*_attention(spec.model, worker), *_quantised(spec.model, worker), *_deepep(worker)]
        findings += [*_eplb(worker), *_batches(worker)]
        if spec.model.architecture not in repaired:
            findings += _ignored_placement(spec, worker)
    return findings


def _attention(model: ModelSpec, worker: WorkerSpec) -> Iterator[Finding]:
    """``assert num_heads % attn_tp_size == 0`` in the models."""
    layout = worker.layout
    if layout.tp % layout.dp:
        return  # The base class reports it.
    shards = layout.tp // layout.dp
    if model.num_attention_heads % shards:
        works = next(d for d in range(layout.dp, layout.tp + 1) if not (layout.tp % d or _uneven(model, layout.tp, d)))
        rule = (
            f"attention is split over TP/DP = {shards} ranks, which must divide the {model.num_attention_heads} heads"
        )
        yield _error(f"{worker.role}.dp", layout.dp, rule, works)


def _uneven(model: ModelSpec, tp: int, dp: int) -> bool:
    return model.num_attention_heads % (tp // dp) != 0


def _quantised(model: ModelSpec, worker: WorkerSpec) -> Iterator[Finding]:
    """Block-quantised weights split only between blocks (``fp8.py``: "not divisible by weight ... block_n")."""
    layout, block = worker.layout, model.scale_block
    if not block or layout.tp % layout.ep:
        return
    expert_shards = layout.tp // layout.ep
    if model.moe_intermediate_size // expert_shards % block:
        rule = (
            f"each expert of width {model.moe_intermediate_size} is split over TP/EP = {expert_shards} ranks, which "
            f"breaks the model's FP8 blocks of {block}"
        )
        yield _error(f"{worker.role}.ep", layout.ep, rule, layout.tp)
    dense_shards = layout.tp if layout.dp == 1 else 1
    in_blocks = model.dense_weight_bytes is None or model.dense_weight_bytes < 2
    if in_blocks and model.dense_intermediate_size and model.dense_intermediate_size / dense_shards % block:
        rule = (
            f"its dense layers of width {model.dense_intermediate_size} are split over TP {layout.tp}, which breaks "
            f"the model's FP8 blocks of {block}; with attention DP each rank keeps them whole"
        )
        yield _error(f"{worker.role}.dp", layout.dp, rule, layout.tp)


def _deepep(worker: WorkerSpec) -> Iterator[Finding]:
    knobs, layout, role = worker.knobs, worker.layout, worker.role
    if knobs.two_batch_overlap and knobs.deepep_mode is None and layout.dp == 1:
        rule = "two-batch overlap needs DeepEP, or attention DP (check_two_batch_overlap)"
        yield _error(f"{role}.two_batch_overlap", True, rule, "deepep_mode, or dp above 1")
    if knobs.deepep_mode is None:
        return
    if layout.ep != layout.tp:
        rule = f"with DeepEP SGLang sets EP to TP {layout.tp} by itself, and slots would be counted for another EP"
        yield _error(f"{role}.ep", layout.ep, rule, layout.tp)
    if role == "prefill" and knobs.deepep_mode == "low_latency":
        rule = "low-latency dispatch takes a few hundred tokens per rank at most, a prefill chunk has thousands"
        yield _error(f"{role}.deepep_mode", knobs.deepep_mode, rule, "'normal'")
    if role != "prefill" and knobs.deepep_mode == "normal":
        rule = "normal dispatch turns off all CUDA graphs, so that decoding is bound by the host"
        works = "'low_latency' for decode, 'auto' for aggregated"
        yield _warning("no-decode-graphs", f"{role}.deepep_mode", knobs.deepep_mode, rule, works)
    if knobs.deepep_mode != "normal" and dispatch_tokens(knobs) > MAX_DISPATCH_TOKENS:
        field = "cuda_graph_max_bs" if knobs.deepep_dispatch_tokens is None else "deepep_dispatch_tokens"
        rule = f"DeepEP's low-latency mode dispatches at most {MAX_DISPATCH_TOKENS} tokens per rank"
        yield _error(f"{role}.{field}", dispatch_tokens(knobs), rule, f"at most {MAX_DISPATCH_TOKENS}")


def dispatch_findings(spec: DeploymentSpec, in_flight: int) -> list[Finding]:
    """Warnings for decode ranks that get more requests at once than DeepEP's low-latency buffers hold tokens.

    The dispatch then fails an assertion, which ends the worker (``x.size(0) <= num_max_dispatch_tokens_per_rank``).
    """
    findings = []
    for worker in spec.workers:
        knobs, ranks = worker.knobs, worker.layout.dp * worker.replicas
        if worker.role == "prefill" or knobs.deepep_mode not in ("low_latency", "auto"):
            continue
        running = -(-in_flight // ranks)
        if knobs.max_running_requests is not None:
            running = min(running, knobs.max_running_requests // worker.layout.dp)
        room = dispatch_tokens(knobs)
        if running <= room:
            continue
        rule = f"{in_flight} requests in flight are {running} for each of {ranks} ranks, and their buffers hold {room}"
        works = f"decode_max_running_requests {room * worker.layout.dp}, so that more requests wait"
        if running <= MAX_DISPATCH_TOKENS:
            works += f", or decode_deepep_dispatch_tokens {running}"
        yours = f"{worker.role}.deepep_dispatch_tokens"
        findings.append(_warning("dispatch-limit", yours, room, f"{rule}: DeepEP's assertion ends them", works))
    return findings


def _eplb(worker: WorkerSpec) -> Iterator[Finding]:
    """``assert ep_size > 1`` with --enable-eplb; redundant experts on one rank would hold the same expert twice."""
    if worker.layout.ep == 1 and worker.knobs.eplb != "off":
        rule = "there is nothing to balance with EP 1"
        yield _error(f"{worker.role}.eplb", worker.knobs.eplb, rule, "'off', or a larger EP")


def _ignored_placement(spec: DeploymentSpec, worker: WorkerSpec) -> Iterator[Finding]:
    """Errors where weights would be placed and tokens not routed after them, so that every answer would be wrong."""
    knobs, architecture = worker.knobs, spec.model.architecture
    version = spec.engine_version or sglang_versions.DEFAULT_VERSION
    moved = knobs.expert_placement is not None or knobs.eplb == "online"
    if not moved or knobs.deepep_mode is not None or sglang_versions.flag_table(version).remaps:
        return
    if architecture in _REMAPS_ONLINE and knobs.eplb == "online":
        return
    rule = (
        f"SGLang {version} places {architecture}'s weights but does not send tokens after them unless DeepEP does: "
        "nothing would be balanced and answers would be wrong (sgl-project/sglang pull requests 36861 and 39580)"
    )
    yield _error(f"{worker.role}.eplb", knobs.eplb, rule, "SGLang 0.5.23, or a deepep_mode, or eplb 'off'")


def _batches(worker: WorkerSpec) -> Iterator[Finding]:
    knobs, layout, role = worker.knobs, worker.layout, worker.role
    running, chunk = knobs.max_running_requests, knobs.chunked_prefill_size
    if running is not None and running < layout.dp:
        rule = f"is divided among the {layout.dp} attention-DP ranks, and each must get at least one"
        yield _error(f"{role}.max_running_requests", running, rule, f"at least {layout.dp}")
    if role == "prefill" and layout.dp > 1 and chunk is not None and chunk // layout.dp < _SMALL_CHUNK:
        rule = f"is divided among the {layout.dp} attention-DP ranks: {chunk // layout.dp} tokens each"
        works = f"{_SMALL_CHUNK * layout.dp} or more"
        yield _warning("small-prefill-chunk", f"{role}.chunked_prefill_size", chunk, rule, works)
    if role != "decode" and chunk is not None:
        yield from _chunk(worker, chunk)


def _chunk(worker: WorkerSpec, chunk: int) -> Iterator[Finding]:
    """``assert chunked_prefill_size % page_size == 0``; and ``PrefillAdder``, which cuts a chunk that is too large."""
    field, most = f"{worker.role}.chunked_prefill_size", MAX_PREFILL_TOKENS * worker.layout.dp
    if chunk % PAGE_TOKENS:
        rule = f"a chunk is whole pages of the KV cache, of up to {PAGE_TOKENS} tokens"
        yield _error(field, chunk, rule, max(chunk // PAGE_TOKENS, 1) * PAGE_TOKENS)
    elif chunk > most:
        rule = f"a scheduler takes {MAX_PREFILL_TOKENS} prompt tokens into a step at most: more changes nothing"
        yield _warning("large-prefill-chunk", field, chunk, rule, f"at most {most}")


def _error(field: str, value: object, rule: str, works: object) -> Finding:
    return Finding(field=field, value=value, rule=rule, suggestion=f"Use {works}")


def _warning(name: str, field: str, value: object, rule: str, works: object) -> Finding:
    return Finding(field=field, value=value, rule=rule, suggestion=f"Use {works}", severity="warning", id=name)
