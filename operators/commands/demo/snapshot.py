"""What the results store says about a cycle at one moment, as plain values to show."""

from __future__ import annotations

from dataclasses import dataclass

from wideloop.results.records import Cycle, Recommendation, Stage, Trial
from wideloop.results.store import Store


@dataclass(frozen=True)
class Snapshot:
    """One look at a running cycle; everything is empty until its first task has written it down."""

    cycle: Cycle | None = None
    stages: tuple[Stage, ...] = ()
    trials: tuple[Trial, ...] = ()
    recommendation: Recommendation | None = None
    repeats: int = 0

    @classmethod
    def read(cls, store: Store, dag_id: str, run_id: str) -> Snapshot:
        """Find the cycle of a DAG run and all that belongs to it."""
        cycle = next((c for c in store.cycles() if (c.dag_id, c.dag_run_id) == (dag_id, run_id)), None)
        if cycle is None:
            return cls()
        return cls(
            cycle,
            tuple(store.stages(cycle.cycle_id)),
            tuple(store.trials(cycle_id=cycle.cycle_id)),
            store.recommendation(cycle.cycle_id),
            len({(m.label, m.repeat) for m in store.measurements(cycle_id=cycle.cycle_id, purpose="repeat")}),
        )

    @property
    def finished(self) -> int:
        """How many trials have an outcome, infeasible ones included."""
        return sum(trial.state != "running" for trial in self.trials)

    @property
    def planned(self) -> int:
        return max(self.cycle.planned_trials if self.cycle else 0, len(self.trials))

    @property
    def best(self) -> Trial | None:
        """The best feasible trial so far."""
        feasible = [t for t in self.trials if _feasible(t)]
        return max(feasible, key=lambda t: t.value or 0.0, default=None)

    @property
    def default(self) -> Trial | None:
        return next((t for t in self.trials if t.is_default and t.value is not None), None)

    def trials_line(self) -> str:
        """E.g. ``trial 4/8, best so far: trial 2 with 812 output tok/s per GPU (default 640)``."""
        if not self.trials:
            return ""
        running = any(trial.state == "running" for trial in self.trials)
        text = f"trial {min(self.finished + running, self.planned)}/{self.planned}"
        if self.best is not None:
            text += f", best so far: trial {self.best.number} with {self.best.value:.1f} output tok/s per GPU"
            if self.default is not None and self.default.number != self.best.number:
                text += f" (default {self.default.value:.1f})"
        return text

    def repeats_line(self) -> str:
        """E.g. ``repeat 3 of at most 16 of the best and the default``, once the first has been measured."""
        if not self.repeats or self.cycle is None:
            return ""
        most = max(2 * int(self.cycle.request.get("repeats", 0)), self.repeats)
        return f"repeat {self.repeats} of at most {most} of the best and the default measured"


def _feasible(trial: Trial) -> bool:
    met = all(value <= 0 for value in trial.constraints.values())
    return trial.state == "complete" and trial.value is not None and met
