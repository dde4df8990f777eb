"""GPU memory of a worker: the parts that all engines' arithmetic shares, and the type of its result."""

from wideloop.manifests.memory.constants import GIB, MemoryConstants
from wideloop.manifests.memory.model import MemoryModel, OomStage, WeightsAndCache, WorkerMemory
from wideloop.manifests.memory.weights import (
    Weights,
    attention_tp,
    kv_bytes_per_gpu,
    kv_split,
    mtp_gib,
    slots_per_gpu,
    weights,
)

__all__ = [
    "GIB", "MemoryConstants", "MemoryModel", "OomStage", "Weights", "WeightsAndCache", "WorkerMemory", "attention_tp",
    "kv_bytes_per_gpu", "kv_split", "mtp_gib", "slots_per_gpu", "weights",
]  # fmt: skip
