"""Online rebalancing of a simulated worker: what it costs, and the log lines that SGLang's EPLB manager writes.

The mocker's timing table does not change while it serves. So the whole run is timed with the placement that rebalancing
reaches for the declared popularity, and each pass carries its share of the time that a rebalance stops the worker.
"""

from __future__ import annotations

import threading
import time

from wideloop.tuning import placement as placements
from wideloop.tuning.simulator.counters import Counters
from wideloop.tuning.simulator.plan import WorkerPlan

_POLL_S = 0.5
_MANAGER = "[EPLBManager]"


class Rebalancer:
    """Writes the lines of a worker that rebalances every so many passes, by the tokens that the mocker forwards."""

    def __init__(self, plan: WorkerPlan, counters: Counters) -> None:
        self._plan = plan
        self._counters = counters
        layout = plan.worker.layout
        self._tokens_per_pass = plan.chunk * layout.dp if plan.worker.role != "decode" else layout.dp * 8
        self._every = plan.worker.knobs.eplb_rebalance_iterations
        in_order = placements.trivial(
            plan.spec.model.num_moe_layers, plan.spec.model.num_experts, plan.worker.knobs.redundant_experts, layout.ep
        )
        self._before, self._after = (
            float(placements.balancedness(plan.popularity, one).mean()) for one in (in_order, plan.placement)
        )

    def start(self) -> None:
        """Follow the worker in a thread of its own."""
        print(f"{_MANAGER} system started, will rebalance per {self._every} iterations.", flush=True)
        threading.Thread(target=self._follow, name="rebalancer", daemon=True).start()

    def _follow(self) -> None:
        done = seen = 0
        while True:
            passes = int(self._counters.tokens() / self._tokens_per_pass)
            for line in self.lines(passes, seen, done):
                print(line, flush=True)
            done, seen = passes // self._every, passes
            time.sleep(_POLL_S)

    def lines(self, passes: int, seen: int, done: int) -> list[str]:
        """The lines between pass ``seen``, after ``done`` rebalances, and pass ``passes``."""
        lines = []
        seconds = self._plan.rebalance_s
        for _ in range(done, passes // self._every):
            lines += [f"{_MANAGER} rebalance start", f"{_MANAGER} rebalance end time={seconds:.3f}s"]
        if passes > seen:
            value = self._after if passes >= self._every else self._before
            lines.append(f"[Expert Balancedness] forward_pass_id={passes} current_pass_balancedness={value:.3f}")
        return lines
