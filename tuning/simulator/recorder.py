"""SGLang's expert-distribution recorder, simulated: real token counts, declared popularity.

Modes ``stat`` and ``per_pass``. Without an all-to-all back end every rank sees every token, so that sums over ranks
are too high by their number, in SGLang as here.
"""

from __future__ import annotations

import threading
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from wideloop.tuning.placement import Placement
from wideloop.tuning.simulator import torch_file
from wideloop.tuning.simulator.counters import Counters
from wideloop.tuning.simulator.plan import WorkerPlan

Ints = npt.NDArray[np.integer[Any]]

#: Rows of the recorder's ring buffer, one per forward pass; unused rows stay zero, as in SGLang.
BUFFER = 64


class Recorder:
    """Counts tokens between start and stop, and dumps them as SGLang does."""

    def __init__(self, plan: WorkerPlan, counters: Counters, directory: Path) -> None:
        self._plan = plan
        self._counters = counters
        self._directory = directory
        self._lock = threading.Lock()
        self._since: float | None = None
        self._tokens = 0.0

    @property
    def enabled(self) -> bool:
        return self._plan.spec.record_experts is not None

    def start(self) -> None:
        """Begin a window; earlier counts are discarded, as in SGLang."""
        with self._lock:
            self._since, self._tokens = self._counters.tokens(), 0.0

    def stop(self) -> None:
        """End the window."""
        with self._lock:
            if self._since is not None:
                self._tokens += max(self._counters.tokens() - self._since, 0)
                self._since = None

    def dump(self) -> None:
        """Write the window's counts and discard them: one file, or in mode ``per_pass`` one for each rank."""
        if self._since is not None:
            self.stop()
        with self._lock:
            tokens, self._tokens = round(self._tokens), 0.0
        name = f"expert_distribution_recorder_{time.time()}"
        counts = self._counts(tokens)
        if self._plan.spec.record_experts == "stat":
            copies = self._plan.worker.layout.tp if self._plan.worker.knobs.deepep_mode is None else 1
            content = {"rank": 0, "logical_count": counts * copies, "average_utilization_rate_over_window": None}
            self._write(f"{name}.pt", content)
            return
        for rank in range(self._plan.worker.layout.tp):
            self._write(f"{name}_{rank}.pt", self._by_pass(counts, rank))

    def _write(self, name: str, content: dict[str, Any]) -> None:
        path = self._directory / name
        part = path.with_suffix(".part")
        torch_file.save(part, content)
        part.rename(path)

    def _by_pass(self, counts: Ints, rank: int) -> dict[str, Any]:
        """A rank's records of every pass: all tokens without an all-to-all back end, else the rank's share of them."""
        plan, model = self._plan, self._plan.spec.model
        dense = model.num_layers - model.num_moe_layers
        slots = plan.placement.slots
        table = np.tile(np.arange(slots) % model.num_experts, (model.num_layers, 1))
        table[dense:] = plan.placement.physical_to_logical
        replicas = Placement(table, 1).replicas(model.num_experts)
        # Round robin over replicas: the j-th of an expert's n replicas gets every n-th token from the j-th on.
        turn = np.array([[(row[:i] == expert).sum() for i, expert in enumerate(row)] for row in table])
        of_slot = np.take_along_axis(counts, table[None], axis=2)
        n = np.take_along_axis(replicas, table, axis=1)
        physical = (of_slot + n - 1 - turn) // n
        if plan.worker.knobs.deepep_mode is not None:
            ranks = plan.worker.layout.tp
            physical = (physical + ranks - 1 - rank) // ranks
        used = physical.any(axis=(1, 2))
        records = [
            {
                "forward_pass_id": number + 1,
                "rank": rank,
                "gatherer_key": "primary",
                "global_physical_count": one.astype(np.int32),
            }
            for number, one in enumerate(physical[used])
        ]
        return {"records": records, "last_physical_to_logical_map": table}

    def _counts(self, tokens: int) -> Ints:
        """[BUFFER, num_layers, experts], each token counted once: multinomial per pass and layer, dense rows zero."""
        plan, model = self._plan, self._plan.spec.model
        counts = np.zeros((BUFFER, model.num_layers, model.num_experts), dtype=np.int32)
        layout = plan.worker.layout
        per_pass = plan.chunk * layout.dp if plan.worker.role != "decode" else layout.dp * 8
        passes = int(np.clip(np.ceil(tokens / per_pass), 0, BUFFER))
        # Two recordings of the same workload differ by a few tokens.
        random = np.random.default_rng([tokens, zlib.crc32(plan.spec.name.encode())])
        dense = model.num_layers - model.num_moe_layers
        for index in range(passes):
            share = tokens // passes + (index < tokens % passes)
            counts[index, dense:] = random.multinomial(share * model.top_k, plan.popularity)
        return counts
