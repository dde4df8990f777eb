"""GPU memory of a worker: what takes how much of it, and how SGLang dies when it does not suffice."""

from wideloop.tuning.memory.constants import CONSTANTS, GIB, UNCALIBRATED, MemoryConstants
from wideloop.tuning.memory.findings import findings
from wideloop.tuning.memory.pools import kv_bytes_per_gpu
from wideloop.tuning.memory.weights import Weights, attention_tp, mtp_gib, slots_per_gpu, weights
from wideloop.tuning.memory.worker import Face, WorkerMemory, worker_memory

__all__ = [
    "CONSTANTS", "GIB", "UNCALIBRATED", "Face", "MemoryConstants", "Weights", "WorkerMemory", "attention_tp",
    "findings", "kv_bytes_per_gpu", "mtp_gib", "slots_per_gpu", "weights", "worker_memory",
]  # fmt: skip
