"""The trials and repeats of a cycle, one after the other."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from wideloop.manifests.errors import WideloopError
from wideloop.operators.request import Request
from wideloop.operators.standalone import probes
from wideloop.operators.standalone.budget import Budget
from wideloop.operators.standalone.deployer import Deployer
from wideloop.operators.standalone.deployment_run import DeploymentRun
from wideloop.operators.steps import launch, sweep, trial
from wideloop.operators.steps.cycle_plan import MAX_FAILURES_IN_A_ROW, has_too_many_failures
from wideloop.operators.steps.experts import placements
from wideloop.operators.steps.finalists import SweepFailed
from wideloop.operators.steps.plan import open_study
from wideloop.operators.steps.run import Run, open_store, stage
from wideloop.operators.steps.sweep import TrialRun

log = logging.getLogger(__name__)
#: The runs that are needed, given how many have failed.
Planned = Callable[[int], Sequence[TrialRun]]


class Trials:
    """Runs what a sweep still needs; a driver that starts again goes on where an earlier one ended."""

    def __init__(self, params: Mapping[str, Any], run: Run, budget: Budget, deployer: Deployer) -> None:
        self._params = params
        self._run = run
        self._budget = budget
        self._deployer = deployer
        self._request = Request.from_params(params)

    def sweep(self, stage_name: str) -> None:
        """Run the planned trials, the probes among them."""
        with stage(self._run, stage_name):
            sweep.prepare_study(self._params, self._run)
            study = open_study(self._request, self._run)
            recorded = bool(placements(self._run).files)
            for probe in probes.probes(study.space, self._request.spec("probes"), recorded=recorded):
                study.enqueue(*probe)
            self._run_all(self._unfinished)

    def repeat(self, stage_name: str) -> None:
        """Repeat the default, the probes that ran and the best trial, interleaved."""
        with stage(self._run, stage_name, gpus=self._request.spec(stage_name).gpus):
            self._run_all(self._unrepeated)

    def next_deployment(self) -> str | None:
        """The deployment of the next trial."""
        planned = self._unfinished(0)
        return self._run_of(planned[0]).deployment("trial") if planned else None

    def _run_of(self, planned: TrialRun) -> Run:
        return Run(dag_id=self._run.dag_id, run_id=planned.run_id, for_cycle=self._run.cycle_id)

    def _unfinished(self, failed_runs: int) -> list[TrialRun]:
        study = open_study(self._request, self._run)
        if len(study.results()) >= self._request.trials:
            return []  # Also where runs failed in an earlier driver and were replaced there.
        finished = study.finished_runs()
        planned = sweep.trial_runs(self._params, self._run, failed_runs)
        waiting = [planned_run for planned_run in planned if planned_run.run_id not in finished]
        return sweep.due_trials(self._params, self._run, waiting)

    def _unrepeated(self, failed_runs: int) -> list[TrialRun]:
        with open_store() as store:
            repeats = store.measurements(cycle_id=self._run.cycle_id, purpose="repeat")
        measured = {(m.trial_number, m.repeat) for m in repeats}
        also = ("placement", "redundancy")
        planned = sweep.repeat_runs(self._params, self._run, failed_runs, also=also)
        waiting = [p for p in planned if (p.extra["repeat_of"], p.extra["repeat"]) not in measured]
        return sweep.due_repeats(self._params, self._run, waiting)

    def _run_all(self, planned: Planned) -> None:
        failed: dict[str, bool] = {}
        while True:
            left = [p for p in planned(sum(failed.values())) if p.run_id not in failed]
            if not left:
                return
            failed[left[0].run_id] = not self._run_one(left[0], left[1:2])
            log.info(sweep.progress(self._params, self._run))
            if has_too_many_failures(list(failed.values())):
                raise SweepFailed(
                    f"the last {MAX_FAILURES_IN_A_ROW} runs failed, the last of them {left[0].run_id}; "
                    "the lines above say of what"
                )

    def _run_one(self, planned: TrialRun, following: Sequence[TrialRun]) -> bool:
        """One trial or repeat, from asking the study to telling it; whether something was learned."""
        run = self._run_of(planned)
        params = {**self._params, **planned.extra}
        with self._budget.unit("trial"):
            deployment_run = DeploymentRun(run.deployment("trial"))
            with deployment_run.timed("ask"):
                asked_trial = trial.ask(params, run)
            if asked_trial.finished:
                return True
            log.info("%s: %s %s", planned.run_id, asked_trial.why, asked_trial.point)
            try:
                self._measure(params, run, asked_trial, following, deployment_run)
            finally:
                # Whatever happened: the study would not ask again for a trial that was never told.
                learned = self._tell(params, run, asked_trial, deployment_run)
        return learned

    def _measure(
        self,
        params: Mapping[str, Any],
        run: Run,
        asked_trial: trial.AskedTrial,
        following: Sequence[TrialRun],
        deployment_run: DeploymentRun,
    ) -> None:
        """Fill in ``deployment_run``; a failure that says nothing about the configuration is logged."""
        image, model_path = self._deployer.image, self._deployer.model_path
        try:
            self._deployer.measure(
                lambda: launch.launch_trial(params, asked_trial, run, image, model_path),
                [trial.subject(params, asked_trial, run)],
                deployment_run,
                run=run,
                next_name=self._run_of(following[0]).deployment("trial") if following else None,
            )
        except WideloopError as problem:
            log.warning("%s: %s", asked_trial.label, problem)
            trial.note_failure(run, problem)

    def _tell(
        self, params: Mapping[str, Any], run: Run, asked_trial: trial.AskedTrial, deployment_run: DeploymentRun
    ) -> bool:
        try:
            trial.tell(params, asked_trial, run, deployment_run.outcome, deployment_run.last)
        except trial.TrialFailed as problem:
            log.warning(problem)
            return False
        return True
