"""SGLang's expert-distribution recorder, simulated: real token counts, declared popularity."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np

from tuning.simulator import torch_file
from tuning.simulator.counters import Counters
from tuning.simulator.plan import WorkerPlan

#: Rows of the recorder's ring buffer, one per forward pass; unused rows stay zero, as in SGLang.
BUFFER = 64


class Recorder:
    """Counts tokens between start and stop, and dumps them as SGLang's ``stat`` mode does."""

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
        """Begin a window; what was recorded before is forgotten, as in SGLang."""
        with self._lock:
            self._since, self._tokens = self._counters.tokens(), 0.0

    def stop(self) -> None:
        """End the window."""
        with self._lock:
            if self._since is not None:
                self._tokens += max(self._counters.tokens() - self._since, 0)
                self._since = None

    def dump(self) -> Path:
        """Write the window's counts and forget them; returns the file."""
        if self._since is not None:
            self.stop()
        with self._lock:
            tokens, self._tokens = round(self._tokens), 0.0
        counts = self._counts(tokens)
        path = self._directory / f"expert_distribution_recorder_{time.time()}.pt"
        part = path.with_suffix(".part")
        content = {"rank": 0, "logical_count": counts, "average_utilization_rate_over_window": None}
        torch_file.save(part, content)
        part.rename(path)
        return path

    def _counts(self, tokens: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
        """[BUFFER, num_layers, experts]: multinomial over experts per pass and layer, dense rows zero.

        Without an all-to-all back end every expert-parallel rank sees every token, and SGLang sums the ranks:
        its totals are EP times too high, and so are these.
        """
        plan, model = self._plan, self._plan.spec.model
        counts = np.zeros((BUFFER, model.num_layers, model.num_experts), dtype=np.int32)
        layout = plan.worker.layout
        per_pass = plan.chunk * layout.dp if plan.worker.role != "decode" else layout.dp * 8
        passes = int(np.clip(np.ceil(tokens / per_pass), 0, BUFFER))
        copies = layout.ep if plan.worker.knobs.deepep_mode is None else 1
        random = np.random.default_rng(tokens)
        dense = model.num_layers - model.num_moe_layers
        for index in range(passes):
            share = tokens // passes + (index < tokens % passes)
            drawn = random.multinomial(share * model.top_k, plan.popularity)
            counts[index, dense:] = drawn * copies
        return counts
