"""Whether three ledgers agree about a sweep: Optuna's study, the results store, and Airflow's runs."""

from __future__ import annotations

from dataclasses import dataclass

import optuna
from wideloop.results.records import Cycle, Measurement, Trial

from tests.airflow_server import AirflowServer


@dataclass(frozen=True)
class Sweep:
    """Everything on record about one run of ``wideep_tune`` or ``wideep_cycle``."""

    cycle: Cycle
    trials: list[Trial]
    measurements: list[Measurement]
    study: list[optuna.trial.FrozenTrial]
    runs: dict[str, str]

    @classmethod
    def of(cls, airflow: AirflowServer, dag_id: str, run_id: str) -> Sweep:
        with airflow.store() as store:
            cycle = next(c for c in store.cycles() if (c.dag_id, c.dag_run_id) == (dag_id, run_id))
            trials, measurements = store.trials(cycle_id=cycle.cycle_id), store.measurements(cycle_id=cycle.cycle_id)
        study = optuna.load_study(study_name=cycle.study, storage=airflow.settings.study_url)
        runs = airflow.get("/api/v2/dags/wideep_trial/dagRuns", limit=100, order_by="-id")["dag_runs"]
        own = {r["dag_run_id"]: r["state"] for r in runs if r["dag_run_id"].startswith(f"{cycle.cycle_id}__trial_")}
        return cls(cycle, trials, measurements, study.trials, own)

    def numbers(self, *states: str) -> set[int]:
        """Numbers of the store's trials in one of ``states``."""
        return {t.number for t in self.trials if t.state in states}

    @property
    def waiting(self) -> list[dict[str, float]]:
        """Points that the study would hand out next."""
        queued = [t for t in self.study if t.state == optuna.trial.TrialState.WAITING]
        return [t.system_attrs["fixed_params"] for t in queued]

    def check(self, planned: int, failed: int = 0) -> None:
        """No trial lost, none counted twice, none left open."""
        finished = self.numbers("complete", "infeasible")
        assert len(finished) == planned
        assert len(self.numbers("failed")) == failed
        assert len(self.trials) == planned + failed
        by_state = optuna.trial.TrialState
        assert {t.number for t in self.study if t.state == by_state.COMPLETE} == finished
        assert {t.number for t in self.study if t.state == by_state.FAIL} == self.numbers("failed")
        assert not [t for t in self.study if t.state == by_state.RUNNING]
        # Every trial but the baseline's has a run of its own, and every run a trial.
        with_run = [t for t in self.trials if t.dag_run_id != self.cycle.dag_run_id]
        assert sorted(t.dag_run_id for t in with_run) == sorted(self.runs)
        wrong = {
            t.number: self.runs[t.dag_run_id]
            for t in with_run
            if (t.state == "failed") != (self.runs[t.dag_run_id] == "failed")
        }
        assert wrong == {}
        measured = sorted(
            m.trial_number for m in self.measurements if m.purpose == "trial" and m.trial_number is not None
        )
        assert measured == sorted(t.number for t in with_run if t.state == "complete")
