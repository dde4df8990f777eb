"""Walk the stages of a cycle in one process; each knows what of it was done before."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from wideloop.manifests.errors import DeploymentFailed, TargetError
from wideloop.operators.request import Request, why_not_placed
from wideloop.operators.standalone.budget import Budget
from wideloop.operators.standalone.deployer import Deployer
from wideloop.operators.standalone.trials import Trials
from wideloop.operators.steps import experts, launch, plan, prepare, recommend
from wideloop.operators.steps.benchmark import Subject
from wideloop.operators.steps.close import close
from wideloop.operators.steps.cycle_plan import MeasuredDeployment, Stage, Work, cycle_stages
from wideloop.operators.steps.restart import is_worth_another_start
from wideloop.operators.steps.run import Run, artefacts, installation, open_store, skip_stage
from wideloop.operators.steps.run import stage as timeline_stage
from wideloop.operators.targets import open_target
from wideloop.results.experts.proofs import keep_proofs, kept_proofs
from wideloop.results.records import Recommendation

log = logging.getLogger(__name__)


class Driver:
    """One cycle; :meth:`run` may be called again after an interruption, in another process.

    Args:
        params: as a DAG's.
        warm_up: measure the first server once and discard the result: it compiles kernels while it is measured.
    """

    def __init__(self, params: Mapping[str, Any], run: Run, budget: Budget, *, warm_up: bool = False) -> None:
        self._params = dict(params)
        self._run = run
        self._budget = budget
        self._warm_up = warm_up
        self._request = Request.from_params(params)
        self._stages = {stage.name: stage for stage in cycle_stages(proves=True)}
        self._why_not_placed = why_not_placed(self._request.spec("plan"))
        self._image = self._model_path = ""
        self._recordings: dict[str, dict[str, str]] = {}
        self._recommendation: Recommendation | None = None

    def run(self) -> Recommendation:
        """Do what is left of the cycle, and close its page.

        Raises:
            OutOfTime: the next measurement does not fit into the budget.
            WideloopError: a stage failed.
        """
        work: dict[Work, Callable[[Stage], None]] = {
            "check_request": self._check_request,
            "prepare_image": self._prepare_image,
            "prepare_weights": self._prepare_weights,
            "measure": self._measure,
            "place_experts": self._place_experts,
            "prove_placement": self._prove_placement,
            "run_trials": self._run_trials,
            "run_repeats": self._run_repeats,
            "recommend": self._recommend,
        }
        for stage in self._stages.values():
            if self._why_not_placed is not None and stage.needs_placement:
                skip_stage(self._run, stage.name, self._why_not_placed)
            else:
                work[stage.work](stage)
        assert self._recommendation is not None
        close(self._run, [])
        return self._recommendation

    def clean_up(self) -> None:
        """Remove what an interrupted driver left on the target: deployments of this cycle, and its standbys."""
        target = open_target(self._request.target)
        for owned in target.list_owned():
            owner = owned.owner
            if owner is not None and (owner.dag_id, owner.installation) == (self._run.dag_id, installation()):
                target.delete(owned.name)

    # ---- one method for each kind of work

    def _check_request(self, _stage: Stage) -> None:
        self.clean_up()
        for warning in plan.plan(self._params, self._run, sweeps=True, records=True):
            log.warning(warning)

    def _prepare_image(self, _stage: Stage) -> None:
        self._image = prepare.ensure_image(self._params, self._run)

    def _prepare_weights(self, _stage: Stage) -> None:
        self._model_path = prepare.ensure_weights(self._params, self._run)

    def _measure(self, stage: Stage) -> None:
        """Deploy, measure and record; the result is where the recordings are kept.

        Raises:
            TargetError: it could not be measured.
        """
        measured = stage.deployment
        assert measured is not None
        name = self._run.deployment(stage.name)
        self._recordings[stage.name] = experts.kept_recordings(self._request.spec(name), self._run)
        if self._recordings[stage.name] or (self._why_not_placed is not None and self._is_measured(measured)):
            return
        with self._budget.unit(f"{stage.name} deployment"):
            subject = launch.subject(
                self._params, self._run, name, measured.purpose, measured.label,
                repeat=measured.repeat, record=measured.record, stage=stage.name,
            )  # fmt: skip
            warm_ups = [_warm_up_of(subject)] if self._warm_up and measured.purpose == "baseline" else []
            self._recordings[stage.name] = self._recorded(stage, measured, [*warm_ups, subject])
        if not self._is_measured(measured):
            raise TargetError(
                f"{name} could not be measured; its logs are in deployments/{name}/logs of the cycle's artefacts"
            )

    def _recorded(self, stage: Stage, measured: MeasuredDeployment, subjects: list[Subject]) -> dict[str, str]:
        """Measure and record a deployment; one that died for no reason of its configuration, once more."""

        def record() -> dict[str, str]:
            return self._deployer().record(
                lambda: launch.launch(
                    self._params, self._run, stage.name, self._image, self._model_path,
                    record=measured.record, placed=measured.placed,
                ),
                subjects,
                next_name=self._next_deployment(stage),
            )  # fmt: skip

        try:
            return record()
        except DeploymentFailed as failed:
            if not is_worth_another_start(failed.diagnosis):
                raise
            log.warning("%s is started once more: %s", stage.name, failed)
            return record()

    def _place_experts(self, stage: Stage) -> None:
        if not experts.placements(self._run).files:
            experts.analyse(self._params, self._recordings[stage.needs[0]], self._run)

    def _prove_placement(self, stage: Stage) -> None:
        if kept_proofs(artefacts(), self._run.cycle_id):
            return
        before, after = (self._recordings[name] for name in stage.needs)
        with timeline_stage(self._run, stage.name):
            proofs = experts.prove(self._request, before, after, self._run)
            keep_proofs(artefacts(), self._run.cycle_id, proofs)
        for role, proof in proofs.items():
            log.info("%s: %s", role, proof.reason)

    def _run_trials(self, stage: Stage) -> None:
        self._trials().sweep(stage.name)

    def _run_repeats(self, stage: Stage) -> None:
        self._trials().repeat(stage.name)

    def _recommend(self, stage: Stage) -> None:
        with timeline_stage(self._run, stage.name):
            self._recommendation = recommend.recommend(self._params, self._run)

    # ---- helpers

    def _is_measured(self, measured: MeasuredDeployment) -> bool:
        with open_store() as store:
            measurements = store.measurements(cycle_id=self._run.cycle_id, purpose=measured.purpose)
        return any((m.label, m.repeat) == (measured.label, measured.repeat) for m in measurements)

    def _deployer(self) -> Deployer:
        return Deployer(self._request, self._run, self._image, self._model_path)

    def _trials(self) -> Trials:
        return Trials(self._params, self._run, self._budget, self._deployer())

    def _next_deployment(self, stage: Stage) -> str | None:
        """The deployment that will follow that of ``stage``, so that its processes can be started ahead."""
        names = list(self._stages)
        later = [self._stages[name] for name in names[names.index(stage.name) + 1 :]]
        if self._why_not_placed is not None:
            later = [stage for stage in later if not stage.needs_placement]
        following = next((s for s in later if s.work in ("measure", "run_trials")), None)
        if following is None:
            return None
        return self._run.deployment(following.name) if following.deployment else self._trials().next_deployment()


def _warm_up_of(subject: Subject) -> Subject:
    """The same load with other prompts, neither recorded nor on the timeline."""
    workload = subject.workload.model_copy(update={"seed": subject.workload.seed + 1})
    return subject.model_copy(
        update={
            "purpose": "benchmark",
            "label": "first server",
            "record": False,
            "workload": workload,
            "stage": None,
        }
    )
