"""The controller of a sweep: a task without state that starts trial runs one after the other.

Each time it wakes it computes from the study which runs are needed. Their ids do not depend on who computes them, so
the task may be killed at any moment, and its retry continues.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow.sdk import BaseOperator
from wideloop.operators.airflow.run_context import params_of, run_of
from wideloop.operators.steps.cycle_plan import MAX_FAILURES_IN_A_ROW, has_too_many_failures
from wideloop.results.airflow_names import TRIAL

if TYPE_CHECKING:
    from airflow.sdk import Context
    from wideloop.operators.steps.run import Run
    from wideloop.operators.steps.sweep import TrialRun


class RunTrials(BaseOperator):
    """Runs the trials of a sweep, or the repeats that compare its best with the default.

    One run is always queued behind the running one, so that accelerators are not idle until this task wakes.

    Args:
        what: ``trials`` or ``repeats``.
        image: digest of the engine's image. model_path: where the weights are.
    """

    template_fields: Sequence[str] = ("image", "model_path")

    def __init__(self, *, what: Literal["trials", "repeats"], image: Any, model_path: Any, **kwargs: Any) -> None:
        # The task keeps no state, so a retry costs nothing and may start soon. Many of them: a deferral that ends
        # within seconds can cost one (when the scheduler learns of the task's end only after the trigger has fired,
        # it takes the task for lost), and a sweep is long.
        kwargs.setdefault("retries", 20)
        kwargs.setdefault("retry_delay", timedelta(seconds=10))
        super().__init__(**kwargs)
        self.what = what
        self.image = image
        self.model_path = model_path

    def execute(self, context: Context) -> None:
        self._advance(context)

    def execute_complete(self, context: Context, event: Any) -> None:
        """Woken because a trial run has finished."""
        self.log.debug("woken by %s", event)
        self._advance(context)

    def _advance(self, context: Context) -> None:
        """Start what is needed, then defer or end; a failure that a retry cannot repair fails at once."""
        from airflow.sdk.exceptions import AirflowFailException
        from wideloop.operators.steps.finalists import SweepFailed

        try:
            self._start_what_is_needed(context)
        except SweepFailed as failed:
            raise AirflowFailException(str(failed)) from failed

    def _start_what_is_needed(self, context: Context) -> None:
        from wideloop.operators.airflow import dag_runs
        from wideloop.operators.request import Request
        from wideloop.operators.steps import sweep
        from wideloop.operators.steps.run import stage

        run = run_of(context)
        params = params_of(context)
        name = self.task_id
        with stage(run, name, ends=False):
            self._check_startable()
            if self.what == "trials":
                sweep.prepare_study(params, run)
            planned, states = self._planned(context)
            waiting = [t for t in planned if states.get(t.run_id) not in dag_runs.FINISHED]
            due_of = sweep.due_repeats if self.what == "repeats" else sweep.due_trials
            unstarted = [t for t in waiting if states.get(t.run_id) is None]
            if unstarted:
                due = due_of(params, run, waiting)
                waiting = [t for t in waiting if t in due or states.get(t.run_id) is not None]
            sweep.settle(params, run, [run_id for run_id, state in states.items() if state == "failed"])
            self._stop_after_failures(planned, states)
            self.log.info(sweep.progress(params, run))
            for trial in waiting[:2]:
                if states.get(trial.run_id) is None:
                    dag_runs.start(TRIAL, trial.run_id, self._conf(params, run, trial))
        if waiting:
            self._sleep_until_finished(waiting[0].run_id)
        # The page adds up the GPU time of trials itself; that of repeats is kept with the stage.
        gpus = Request.from_params(params).spec(name).gpus if self.what == "repeats" else 0
        with stage(run, name, gpus=gpus):
            self.log.info("%s done: %s", name, sweep.progress(params, run))

    def _planned(self, context: Context) -> tuple[list[TrialRun], dict[str, str | None]]:
        """The runs that are needed and the state of each. A failed run adds another one, which may have failed too."""
        from wideloop.operators.airflow import dag_runs
        from wideloop.operators.steps import sweep

        plan = sweep.trial_runs if self.what == "trials" else sweep.repeat_runs
        params, run = params_of(context), run_of(context)
        states: dict[str, str | None] = {}
        while True:
            planned = plan(params, run, sum(s == "failed" for s in states.values()))
            unread = [t.run_id for t in planned if t.run_id not in states]
            if not unread:
                return planned, states
            states |= {run_id: dag_runs.state(TRIAL, run_id) for run_id in unread}

    def _check_startable(self) -> None:
        from wideloop.operators.airflow import dag_runs

        if dag_runs.is_paused(TRIAL):
            raise RuntimeError(f"{TRIAL} is paused: its runs would stay queued. Unpause it and clear this task")

    def _stop_after_failures(self, planned: list[TrialRun], states: dict[str, str | None]) -> None:
        from wideloop.operators.airflow import dag_runs
        from wideloop.operators.steps.finalists import SweepFailed

        ended = [t.run_id for t in planned if states.get(t.run_id) in dag_runs.FINISHED]
        if has_too_many_failures([states[run_id] == "failed" for run_id in ended]):
            names = ", ".join(ended[-MAX_FAILURES_IN_A_ROW:])
            raise SweepFailed(
                f"the last {MAX_FAILURES_IN_A_ROW} runs of {TRIAL} failed ({names}). Read the log of the last one, "
                "repair the cause, clear those runs and then this task: it continues the same study"
            )

    def _conf(self, params: dict[str, Any], run: Run, trial: TrialRun) -> dict[str, Any]:
        own = {"cycle_id": run.cycle_id, "image": self.image, "model_path": self.model_path}
        return {**params, **own, **trial.extra}

    def _sleep_until_finished(self, run_id: str) -> None:
        # It loads Airflow's database models: half of what parsing the DAG file would cost.
        from airflow.providers.standard.triggers.external_task import DagStateTrigger
        from wideloop.operators.airflow import dag_runs

        ended: Any = list(dag_runs.FINISHED)
        trigger = DagStateTrigger(dag_id=TRIAL, states=ended, run_ids=[run_id], poll_interval=2.0)
        self.defer(trigger=trigger, method_name="execute_complete", timeout=timedelta(days=7))
