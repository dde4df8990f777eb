"""GPU memory of a worker: what every engine's arithmetic has in common, and what each of them returns."""

from wideloop.manifests.memory.constants import GIB, MemoryConstants
from wideloop.manifests.memory.model import MemoryModel, OomStage, WeightsAndCache, WorkerMemory
from wideloop.manifests.memory.weights import Weights, attention_tp, kv_bytes_per_gpu, mtp_gib, slots_per_gpu, weights

__all__ = [
    "GIB", "MemoryConstants", "MemoryModel", "OomStage", "Weights", "WeightsAndCache", "WorkerMemory", "attention_tp",
    "kv_bytes_per_gpu", "mtp_gib", "slots_per_gpu", "weights",
]  # fmt: skip
