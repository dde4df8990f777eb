"""The mocker's inputs for a role of a deployment: a timing table and a number of blocks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from wideloop.manifests.deployment import DeploymentSpec, WorkerSpec
from wideloop.manifests.engines import get_engine
from wideloop.manifests.hardware import Role
from wideloop.tuning import placement as placements
from wideloop.tuning.memory import WorkerMemory, attention_tp, worker_memory
from wideloop.tuning.performance import CONSTANTS, WorkerModel
from wideloop.tuning.placement import Placement
from wideloop.tuning.popularity import popularity

Floats = npt.NDArray[np.floating[Any]]

#: Tokens per KV block of the mocker; SGLang's page is smaller, but nothing here shares prefixes.
BLOCK = 16
#: SGLang's cap on running requests when none is given.
MAX_RUNNING = 2048
#: Neighbouring grid points of the decode table differ by this factor: the mocker interpolates between them,
#: and a batch must not see the step time of the next captured graph size.
GRID_STEP = 1.02
MIN_CONTEXT = 16


@dataclass(frozen=True)
class WorkerPlan:
    """One worker of a resolved deployment, with the figures that the simulation uses."""

    spec: DeploymentSpec
    worker: WorkerSpec

    @classmethod
    def of(cls, spec: DeploymentSpec, role: Role) -> WorkerPlan:
        return cls(spec, spec.worker(role))

    @cached_property
    def memory(self) -> WorkerMemory:
        return worker_memory(self.spec, self.worker)

    @cached_property
    def popularity(self) -> Floats:
        """Popularity in the role's traffic, [moe_layers, experts]: prompts and generated text differ in routing."""
        return popularity(self.spec.model, self.worker.role)

    @cached_property
    def placement(self) -> Placement:
        """Placement of the MoE layers only; the placement file also has rows for dense layers.

        Where experts are rebalanced online it is the one that the engine reaches.

        Raises:
            Refused: the file does not fit this deployment.
        """
        model, knobs, ep = self.spec.model, self.worker.knobs, self.worker.layout.ep
        if knobs.eplb == "online":
            return placements.place(self.popularity, ep, knobs.redundant_experts)
        if knobs.expert_placement is None:
            return placements.trivial(model.num_moe_layers, model.num_experts, knobs.redundant_experts, ep)
        whole = placements.read(Path(knobs.expert_placement), ep, model.num_experts)
        return Placement(whole.physical_to_logical[-model.num_moe_layers :], ep)

    @cached_property
    def timing(self) -> WorkerModel:
        engine = get_engine(self.spec.engine)
        return WorkerModel(
            self.spec.model, self.spec.hardware, self.worker, self.popularity, self.placement, engine=engine
        )

    @property
    def rebalance_s(self) -> float:
        """How long one online rebalance stops the worker: a GPU's slots are filled anew over the slowest link."""
        hardware, model, worker = self.spec.hardware, self.spec.model, self.worker
        slots = (model.num_experts + worker.knobs.redundant_experts) / worker.layout.ep
        crosses = worker.layout.nodes > 1 and hardware.fabric_gb_s > 0
        link = hardware.fabric_gb_s if crosses else hardware.gpu.peer_gb_s
        return slots * model.slot_bytes / (link * 1e9)

    @property
    def stop_ms(self) -> float:
        """Share of the online rebalances' stops that each pass carries, milliseconds."""
        knobs = self.worker.knobs
        return 1e3 * self.rebalance_s / knobs.eplb_rebalance_iterations if knobs.eplb == "online" else 0.0

    @property
    def blocks(self) -> int:
        """KV blocks per attention-DP rank."""
        return max(self.memory.kv_tokens // BLOCK, 1)

    @property
    def chunk(self) -> int:
        """Prefill chunk of one attention-DP rank, tokens."""
        return max((self.worker.knobs.chunked_prefill_size or 0) // self.worker.layout.dp, 1)

    @property
    def max_running(self) -> int:
        """Requests one attention-DP rank runs at a time."""
        return max((self.worker.knobs.max_running_requests or MAX_RUNNING) // self.worker.layout.dp, 1)

    @property
    def transfer_gb_s(self) -> float:
        """KV transfer rate of one request: the GPUs of a prefill rank send their parts side by side."""
        hardware = self.spec.hardware
        crosses = sum(w.layout.nodes * w.replicas for w in self.spec.workers) > 1 and hardware.fabric_gb_s
        link = hardware.fabric_gb_s if crosses else hardware.gpu.peer_gb_s
        sender = next((w for w in self.spec.workers if w.role == "prefill"), self.worker)
        return link * CONSTANTS.link * attention_tp(sender)

    def write_table(self, path: Path) -> None:
        """Write the mocker's timing table: prefill time by chunk, step time by KV tokens and mean context.

        The mocker looks both up per attention-DP rank and interpolates linearly; the batch is the ratio of
        the decode table's two axes.
        """
        prefill = np.unique(np.concatenate([[1.0], np.geomspace(16, max(self.chunk, 32), 48)]))
        context = _grid(MIN_CONTEXT, self.spec.model.max_context)
        kv = _grid(MIN_CONTEXT, max(self.memory.kv_tokens, 2 * MIN_CONTEXT))
        batch = np.maximum(np.rint(kv[:, None] / context[None, :]), 1)
        np.savez(
            path,
            prefill_isl=prefill,
            prefill_ttft_ms=self.timing.prefill_ms(prefill) + self.stop_ms,
            decode_active_kv_tokens=kv,
            decode_context_length=context,
            decode_itl=self.timing.decode_ms(batch, context[None, :]) + self.stop_ms,
        )


def _grid(low: float, high: float) -> Floats:
    points = int(np.ceil(np.log(high / low) / np.log(GRID_STEP))) + 1
    grid: Floats = low * GRID_STEP ** np.arange(points)
    return grid
