"""Servers that were started on real GPUs, read from a CSV file, to compare the memory model with.

A folder has ``servers.csv`` (one row per start) and ``models/<model>.json`` (the config.json of each). Columns used:
``call, run, model, R, mem_fraction, graph_max_bs, chunked_prefill`` and, empty where the server ended before,
``weight_gb, kv_gb, max_total_num_tokens, graph_gb, avail_after_start_gb`` (GiB, as SGLang logs them), ``gpu_mib_ready,
gpu_mib_end`` (nvidia-smi's MiB after the warm-up request and after the load), ``alive_after`` (``True`` or ``False``
when a burst of load was the last thing before ``gpu_mib_end``; else empty, and the caches had been emptied).
``outcome`` is how it ended; ``ep`` (2 without it), ``max_running_requests`` and ``engine`` (``sglang`` without it)
are optional.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from wideloop.manifests.deployment import Knobs, WorkerSpec
from wideloop.manifests.engines import get_engine
from wideloop.manifests.hardware import GpuSpec, WorkerLayout
from wideloop.manifests.memory import MemoryConstants, MemoryModel, WorkerMemory
from wideloop.manifests.model import ModelSpec

_DEFAULT_EP = 2
#: Engine of rows without the column ``engine``: the first measured servers were SGLang's.
_DEFAULT_ENGINE = "sglang"


@dataclass(frozen=True)
class Server:
    """One start of a server. Measured values are None where the server ended before.

    Attributes:
        survived: whether it was alive after a burst of load, None when its memory was not read right after one.
        engine: name of the engine.
        outcome: ``ready``, a stage of out-of-memory, ``refused`` (R does not divide) or ``rebalance`` (the engine
            crashed at its first online rebalance, for a reason other than memory).
    """

    name: str
    model: ModelSpec
    worker: WorkerSpec
    weights_gib: float | None
    kv_gib: float | None
    kv_tokens: int | None
    graph_gib: float | None
    free_gib: float | None
    mib_ready: float | None
    mib_end: float | None
    survived: bool | None
    outcome: str
    engine: str = _DEFAULT_ENGINE

    @property
    def memory_model(self) -> MemoryModel:
        return get_engine(self.engine).memory_model

    @property
    def ready(self) -> bool:
        return self.free_gib is not None

    @property
    def valid(self) -> bool:
        """Whether its experts divide by EP: SGLang asserts that before it allocates anything."""
        return (self.model.num_experts + self.worker.knobs.redundant_experts) % self.worker.layout.ep == 0

    @property
    def growth_gib(self) -> float | None:
        """GiB that a burst of load added to the memory in use, None when not measured."""
        if not self.survived or self.mib_end is None or self.mib_ready is None:
            return None
        return (self.mib_end - self.mib_ready) / 1024

    def predicted(self, gpu: GpuSpec, constants: MemoryConstants | None = None) -> WorkerMemory:
        """The prediction of its engine's memory model, with ``constants`` instead of the shipped ones when given."""
        model = self.memory_model if constants is None else self.memory_model.having(constants)
        return model.worker(self.model, gpu, self.worker)


def read_servers(folder: Path) -> list[Server]:
    """The rows of ``folder / servers.csv``, in order.

    Raises:
        FileNotFoundError: a file is missing.
        KeyError: a column is missing.
    """
    models = {file.stem: ModelSpec.from_path(file, file.stem) for file in sorted((folder / "models").glob("*.json"))}
    with (folder / "servers.csv").open(newline="") as file:
        return [_server(row, models[row["model"]]) for row in csv.DictReader(file)]


def _server(row: dict[str, str], model: ModelSpec) -> Server:
    ep = int(row.get("ep") or _DEFAULT_EP)
    knobs = Knobs(
        attention_backend="triton",
        redundant_experts=int(row["R"]),
        mem_fraction_static=float(row["mem_fraction"]),
        cuda_graph_max_bs=int(row["graph_max_bs"]),
        chunked_prefill_size=int(row["chunked_prefill"]),
        max_running_requests=int(row.get("max_running_requests") or 0) or None,
    )
    layout = WorkerLayout(nodes=1, gpus_per_node=ep, tp=ep, dp=1, ep=ep)
    tokens = _number(row["max_total_num_tokens"])
    return Server(
        name=f"{row['call']} {row['run']}",
        model=model,
        worker=WorkerSpec(role="aggregated", layout=layout, knobs=knobs),
        weights_gib=_number(row["weight_gb"]),
        kv_gib=_number(row["kv_gb"]),
        kv_tokens=None if tokens is None else int(tokens),
        graph_gib=_number(row["graph_gb"]),
        free_gib=_number(row["avail_after_start_gb"]),
        mib_ready=_number(row["gpu_mib_ready"]),
        mib_end=_number(row["gpu_mib_end"]),
        survived={"True": True, "False": False}.get(row["alive_after"]),
        outcome=row["outcome"],
        engine=row.get("engine") or _DEFAULT_ENGINE,
    )


def _number(text: str) -> float | None:
    return float(text) if text else None
