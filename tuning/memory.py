"""How a worker's GPU memory divides, and how SGLang dies when it does not suffice.

The arithmetic is SGLang's own: ``KV = usable * mem_fraction_static - weights`` was exact to 0.02 GiB on
29 servers (SGLang 0.5.17, two H200); the other terms are constants measured there, named below.
One GPU of the worker stands for all: the layout is symmetric.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from manifests.deployment import DeploymentSpec, WorkerSpec
from manifests.findings import Finding
from manifests.hardware import GpuSpec
from manifests.model import ModelSpec

GIB = 2**30
#: CUDA context growth, NCCL and allocator slack between "free by arithmetic" and "free at ready", GiB.
#: Measured: free = usable * (1 - fraction) - graphs - 0.9.
RUNTIME_RESERVE_GIB = 0.9
#: Graph memory: a fixed part (GiB) and 18 hidden-sized bf16 tensors per layer and batch slot. Fits the
#: measured 0.064/0.160/0.484 GiB at 8/64/256 (24 layers of 2048) and 0.11/0.35/0.60 at 64/256/512 (8 of 4096).
GRAPH_FIXED_GIB = 0.045
GRAPH_TENSORS_PER_LAYER = 18
#: SGLang's tensors per token while one MoE layer runs: top_k copies of (gate+up, product, output) and about
#: six hidden-sized ones. Gives the measured 0.8/1.5-2.2/2.9-4.8 GiB at chunks of 4096/8192/16384.
ACTIVATION_HIDDEN_TENSORS = 6
#: NCCL allocates its channels at the first collectives of the warm-up request, GiB. Below it NCCL fails there:
#: measured at 0.7 GiB free, while 2.6 GiB free came up.
NCCL_FIRST_USE_GIB = 0.75

Face = Literal["capture", "no_kv_left", "warm_up", "under_load"]


@dataclass(frozen=True)
class WorkerMemory:
    """GiB per GPU of one worker, and what follows from them.

    Attributes:
        kv_tokens: tokens of KV cache per attention-DP rank.
        kv_bytes_per_token: on one GPU.
        free_at_ready_gib: left once the worker answers, before load.
        activations_gib: what the largest batch needs on top.
        minimum_fraction: ``mem_fraction_static`` below which no KV cache is left.
        face: how it dies, None when it fits.
        deficit_gib: memory missing for that face to go away, 0 when it fits.
    """

    usable_gib: float
    attention_gib: float
    experts_gib: float
    graphs_gib: float
    activations_gib: float
    kv_gib: float
    kv_tokens: int
    kv_bytes_per_token: int
    free_at_ready_gib: float
    minimum_fraction: float
    face: Face | None
    deficit_gib: float

    @property
    def weights_gib(self) -> float:
        """Everything loaded: attention, embeddings, dense layers, routers and expert slots."""
        return self.attention_gib + self.experts_gib

    @property
    def fits(self) -> bool:
        return self.face is None


def worker_memory(model: ModelSpec, gpu: GpuSpec, worker: WorkerSpec) -> WorkerMemory:
    """Memory of one GPU of ``worker``, whose knobs must be resolved (no ``None`` among the three sizes).

    Raises:
        ValueError: a knob is not resolved.
    """
    knobs = worker.knobs
    fraction, max_bs, chunk = knobs.mem_fraction_static, knobs.cuda_graph_max_bs, knobs.chunked_prefill_size
    if fraction is None or max_bs is None or chunk is None:
        raise ValueError(f"the {worker.role} worker's knobs are not resolved: {knobs}")
    attention = attention_bytes(model, worker) / GIB
    experts = expert_bytes(model, worker) / GIB
    graphs = 0.0 if worker.role == "prefill" else graph_gib(model, worker, max_bs)
    activations = activation_gib(model, worker, chunk, max_bs)
    usable = gpu.usable_gib
    weights = attention + experts
    kv = usable * fraction - weights
    per_token = kv_bytes_per_gpu(model, worker)
    free = usable * (1 - fraction) - graphs - RUNTIME_RESERVE_GIB
    face, deficit = _face(kv, free, activations)
    return WorkerMemory(
        usable_gib=usable,
        attention_gib=attention,
        experts_gib=experts,
        graphs_gib=graphs,
        activations_gib=activations,
        kv_gib=max(kv, 0.0),
        kv_tokens=max(int(kv * GIB / per_token), 0),
        kv_bytes_per_token=per_token,
        free_at_ready_gib=free,
        minimum_fraction=weights / usable,
        face=face,
        deficit_gib=deficit,
    )


def _face(kv: float, free: float, activations: float) -> tuple[Face | None, float]:
    if kv <= 0:
        return "no_kv_left", -kv
    if free < 0:
        return "capture", -free
    if free < NCCL_FIRST_USE_GIB:
        return "warm_up", NCCL_FIRST_USE_GIB - free
    if free < activations:
        return "under_load", activations - free
    return None, 0.0


def attention_tp(worker: WorkerSpec) -> int:
    """GPUs that share one attention-DP rank."""
    return max(worker.layout.tp // worker.layout.dp, 1)


def attention_bytes(model: ModelSpec, worker: WorkerSpec) -> float:
    """Bytes per GPU of all weights but the routed experts.

    Attention, embeddings, head, shared experts and dense layers are split over the GPUs of one attention-DP
    rank and replicated over the ranks (``--enable-dp-attention --moe-dense-tp-size 1 --enable-dp-lm-head``);
    routers are on every GPU.
    """
    dense_layers = model.num_layers - model.num_moe_layers
    linear = (
        model.num_layers * model.attention_params_per_layer
        + model.num_moe_layers * 3 * model.hidden_size * model.shared_intermediate_size
        + dense_layers * 3 * model.hidden_size * model.dense_intermediate_size
    )
    embeddings = 2 * 2 * model.vocab_size * model.hidden_size
    routers = 2 * model.num_moe_layers * model.hidden_size * model.num_experts
    return (model.stored_bytes(linear) + embeddings) / attention_tp(worker) + routers


def slots_per_gpu(model: ModelSpec, worker: WorkerSpec) -> float:
    """Physical expert slots of one expert-parallel rank."""
    return (model.num_experts + worker.knobs.redundant_experts) / worker.layout.ep


def expert_bytes(model: ModelSpec, worker: WorkerSpec) -> float:
    """Bytes per GPU of routed experts; with EP < TP each expert is split over TP / EP GPUs."""
    return slots_per_gpu(model, worker) * model.slot_bytes * worker.layout.ep / worker.layout.tp


def kv_bytes_per_gpu(model: ModelSpec, worker: WorkerSpec) -> int:
    """Bytes one cached token takes on one GPU; KV heads split at most over the rank's GPUs."""
    return model.kv_bytes_per_token // min(attention_tp(worker), model.num_kv_heads)


def graph_gib(model: ModelSpec, worker: WorkerSpec, max_bs: int) -> float:
    """GiB of captured decode graphs up to ``max_bs`` per attention-DP rank.

    Under attention DP the experts see the batches of all ranks: their buffers are in the graph too (once, the
    layers share them).
    """
    per_slot = GRAPH_TENSORS_PER_LAYER * 2 * model.num_layers * model.hidden_size
    gathered = (worker.layout.dp - 1) * _bytes_per_token(model)
    return GRAPH_FIXED_GIB + max_bs * (per_slot + gathered) / GIB


def activation_gib(model: ModelSpec, worker: WorkerSpec, chunk: int, max_bs: int) -> float:
    """GiB the largest step needs while it runs: a prefill chunk, or a decode batch on a decode worker.

    ``chunk`` and max_running_requests count the whole worker, as SGLang's flags do, ``max_bs`` one rank. The
    ranks' tokens are gathered before the experts.
    """
    decode_tokens = max(worker.knobs.max_running_requests or 0, max_bs * worker.layout.dp)
    tokens = decode_tokens if worker.role == "decode" else chunk
    logits = 4 * max_bs * model.vocab_size if worker.role != "prefill" else 0
    return (tokens * _bytes_per_token(model) + logits) / GIB


def _bytes_per_token(model: ModelSpec) -> int:
    moe = model.top_k * (3 * model.moe_intermediate_size + model.hidden_size)
    return 2 * (moe + ACTIVATION_HIDDEN_TENSORS * model.hidden_size)


def findings(spec: DeploymentSpec) -> list[Finding]:
    """Refuse what cannot run however its knobs are set; ``spec`` must be resolved.

    A model whose weights leave nothing is refused with what would fit; a worker that SGLang would let die
    for its knobs alone is a warning, because the optimiser may well want to know that.
    """
    return [f for worker in spec.workers for f in _worker_findings(spec, worker)]


def _worker_findings(spec: DeploymentSpec, worker: WorkerSpec) -> list[Finding]:
    memory = worker_memory(spec.model, spec.hardware.gpu, worker)
    gpu = spec.hardware.gpu
    bare = worker.model_copy(update={"knobs": worker.knobs.model_copy(update={"redundant_experts": 0})})
    need = (attention_bytes(spec.model, bare) + expert_bytes(spec.model, bare)) / GIB
    room = gpu.usable_gib - RUNTIME_RESERVE_GIB - NCCL_FIRST_USE_GIB
    if need >= room:
        return [
            Finding(
                field=f"{worker.role}.hardware",
                value=f"{spec.model.name} on {worker.layout.gpus} x {gpu.name}",
                rule=f"its weights take {need:.1f} GiB per GPU of which {room:.1f} can be used",
                suggestion=_would_fit(spec.model, worker, room),
            )
        ]
    if memory.fits:
        return []
    return [_knob_finding(worker, memory)]


def _knob_finding(worker: WorkerSpec, memory: WorkerMemory) -> Finding:
    low = memory.minimum_fraction
    spare = memory.graphs_gib + RUNTIME_RESERVE_GIB + max(memory.activations_gib, NCCL_FIRST_USE_GIB)
    high = 1 - spare / memory.usable_gib
    if low < high:
        suggestion = f"A mem_fraction_static between {low:.3f} and {high:.3f} works"
    else:
        suggestion = "No mem_fraction_static works: fewer redundant experts or a smaller cuda_graph_max_bs would"
    rules = {
        "no_kv_left": "leaves no memory for the KV cache",
        "capture": "leaves too little for the CUDA graphs",
        "warm_up": "leaves too little for NCCL at the warm-up request",
        "under_load": "leaves too little for the activations of a full batch",
    }
    return Finding(
        field=f"{worker.role}.mem_fraction_static",
        value=worker.knobs.mem_fraction_static,
        rule=f"{rules[memory.face or 'capture']}: {memory.deficit_gib:.2f} GiB per GPU missing",
        suggestion=suggestion,
        severity="warning",
    )


def _would_fit(model: ModelSpec, worker: WorkerSpec, room: float) -> str:
    """The smallest power-of-two worker of this GPU that holds the weights with a tenth left for KV cache."""
    gpus = worker.layout.gpus
    while gpus < 1024:
        gpus *= 2
        dp = gpus if worker.layout.dp > 1 else 1
        layout = worker.layout.model_copy(update={"nodes": 1, "gpus_per_node": gpus, "tp": gpus, "dp": dp, "ep": gpus})
        wider = worker.model_copy(
            update={"layout": layout, "knobs": worker.knobs.model_copy(update={"redundant_experts": 0})}
        )
        need = (attention_bytes(model, wider) + expert_bytes(model, wider)) / GIB
        if need < 0.9 * room and model.num_experts % gpus == 0:
            return (
                f"{gpus} such GPUs per {worker.role} worker would hold it ({need:.1f} GiB each), or fewer larger ones"
            )
    return "Use GPUs with more memory, a smaller model or one in fewer bits"
