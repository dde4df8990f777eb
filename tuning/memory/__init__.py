"""GPU memory of a worker: the engine's prediction for a deployment, and the errors of that prediction.

``findings`` judges a deployment before it is launched. The rest (``calibrate``, ``document``, ``reference``) fits the
constants of an engine's arithmetic to servers that ran and writes docs/memory.md.
"""

from wideloop.manifests.memory import GIB, OomStage, WorkerMemory, attention_tp, kv_bytes_per_gpu
from wideloop.tuning.memory.findings import memory_findings, worker_memory

__all__ = [
    "GIB", "OomStage", "WorkerMemory", "attention_tp", "kv_bytes_per_gpu", "memory_findings", "worker_memory",
]  # fmt: skip
