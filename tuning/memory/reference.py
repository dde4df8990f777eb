"""DeepSeek-R1's memory term by term, next to published figures. For docs/memory.md."""

from __future__ import annotations

from wideloop.manifests import profiles
from wideloop.manifests.deployment import Knobs, WorkerSpec
from wideloop.manifests.hardware import WorkerLayout
from wideloop.manifests.memory import GIB, Weights, deepep, mtp_gib, weights

#: GiB per GPU that AIConfigurator 0.12.0 has for R1 on 32 H200 (attention-DP 32, EP 32, batch 64, ISL 4000, OSL 256;
#: ``InferenceSession.run_static``, ``generation_ops``), by this model's terms, and the reason for each difference.
AICONFIGURATOR = {
    "experts": (20.02, "61 MoE layers instead of 58; no block scales"),
    "attention": (1.72, "the first projections, twice; without q_b, kv_b and o"),
    "absorbed": (0.0, "not counted: SGLang keeps 16-bit copies of kv_b"),
    "embeddings": (1.73, "without the head"),
    "dense": (0.0, "the three dense layers count as MoE layers"),
    "shared": (2.50, "61 layers instead of 58"),
    "routers": (0.21, "61 layers; without the rotary table"),
}
#: Logged by a user of sgl-project/sglang issue 6017 (2025-05-09): DP 8, EP 8, DeepEP, one node.
PUBLISHED_GIB = 105.59
_R1 = "DeepSeek-R1"
_DISPATCH_TOKENS = 128


def r1_worker(ep: int, redundant: int = 0, mode: str | None = "low_latency") -> WorkerSpec:
    """A decode worker of R1 on ``ep`` GPUs of its own attention rank each."""
    layout = WorkerLayout(nodes=1, gpus_per_node=ep, tp=ep, dp=ep, ep=ep)
    sizes = {"redundant_experts": redundant, "cuda_graph_max_bs": _DISPATCH_TOKENS}
    knobs = Knobs.model_validate({**sizes, "deepep_mode": mode})
    return WorkerSpec(role="decode", layout=layout, knobs=knobs)


def r1_weights(ep: int, redundant: int = 0) -> Weights:
    return weights(profiles.model(_R1), r1_worker(ep, redundant))


def section() -> str:
    """The markdown section."""
    return "\n\n".join((_aiconfigurator(), _published(), _sizes()))


def _aiconfigurator() -> str:
    ours = r1_weights(32)
    rows = [
        f"| {term} | {getattr(ours, term):.2f} | {theirs:.2f} | {getattr(ours, term) - theirs:+.2f} | {why} |"
        for term, (theirs, why) in AICONFIGURATOR.items()
    ]
    total = sum(theirs for theirs, _ in AICONFIGURATOR.values())
    rows.append(f"| **weights** | {ours.total:.2f} | {total:.2f} | {ours.total - total:+.2f} | |")
    head = (
        "| GiB per GPU | predicted | AIConfigurator 0.12.0 | difference | AIConfigurator has |\n|---|---|---|---|---|"
    )
    return "\n".join(
        (
            "## DeepSeek-R1 against AIConfigurator\n",
            "R1 (FP8) at EP 32, attention-DP 32, DeepEP. AIConfigurator's total of 39.4 GiB per GPU is these weights, "
            "8.9 of KV cache for its batch of 64, 0.1 of activations and a lump of 4.2 for everything else. SGLang "
            "sizes its KV cache from `mem_fraction_static` instead, so that only the weights can be compared.\n",
            head,
            *rows,
        )
    )


def _published() -> str:
    ours = r1_weights(8, 32).total
    return (
        "## A published start\n\n"
        f"A user's log in sgl-project/sglang#6017 says `mem usage={PUBLISHED_GIB} GB` for R1 after loading at DP 8, "
        "EP 8 with DeepEP. With the 32 redundant experts of that thread's commands (his own are not shown) "
        "the prediction is "
        f"{ours:.2f} GiB: {ours - PUBLISHED_GIB:+.2f}."
    )


def _sizes() -> str:
    model = profiles.model(_R1)
    rows = []
    for ep, redundant in ((8, 0), (16, 0), (32, 0), (32, 32), (72, 32)):
        w, worker = r1_weights(ep, redundant), r1_worker(ep, redundant)
        low_latency = deepep.buffer_gib(model, worker, _DISPATCH_TOKENS)
        graph_rows = deepep.masked_gib(model, worker, _DISPATCH_TOKENS)
        normal = deepep.buffer_gib(model, r1_worker(ep, redundant, "normal"), _DISPATCH_TOKENS)
        rows.append(
            f"| {ep} | {redundant} | {(model.num_experts + redundant) // ep} | {w.experts:.2f} | {w.other:.2f} "
            f"| {w.total:.2f} | {low_latency:.2f} | {graph_rows:.2f} "
            f"| {normal:.2f} | {mtp_gib(model, worker):.2f} |"
        )
    head = (
        "| EP | R | slots | experts | other weights | weights | low-latency buffers | its graphs' rows "
        "| normal buffers | MTP layer |\n" + "|---" * 10 + "|"
    )
    return "\n".join(
        (
            "## DeepSeek-R1 by expert-parallel size\n",
            f"GiB per GPU; one more slot costs {model.slot_bytes / GIB:.3f}. Low-latency buffers are for 128 tokens "
            "per rank, in NVSHMEM's pieces of 0.5 GiB; the MTP layer is loaded for speculative decoding only. Buffers "
            "and graphs' rows follow from DeepEP's and SGLang's sources and were not measured.\n",
            head,
            *rows,
        )
    )
