"""The stages of a cycle, each of which knows what of it was done before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.errors import WideloopError
from wideloop.operators.request import Request
from wideloop.operators.standalone import journal, probes
from wideloop.operators.standalone.budget import Budget
from wideloop.operators.standalone.proof import prove
from wideloop.operators.standalone.visit import Visit, visit
from wideloop.operators.steps import experts, launch, plan, prepare, recommend, sweep, trial
from wideloop.operators.steps.benchmark import Subject, summary
from wideloop.operators.steps.close import close
from wideloop.operators.steps.plan import open_study
from wideloop.operators.steps.run import Run, artefacts, installation, open_store, stage
from wideloop.operators.steps.sweep import TrialRun
from wideloop.operators.targets import open_target
from wideloop.results.records import Recommendation

_PROOF = "proof.json"
#: Consecutive trials without a result after which something other than a configuration must be wrong.
_HOPELESS = 3


class Driver:
    """One cycle. Every method may be called again after an interruption.

    Args:
        params: as a DAG's.
        warm_up: measure the first server once for nothing: it compiles kernels while it is measured.
    """

    def __init__(self, params: Mapping[str, Any], run: Run, budget: Budget, *, warm_up: bool = False) -> None:
        self._params = dict(params)
        self._run = run
        self._budget = budget
        self._warm_up = warm_up
        self._request = Request.from_params(params)
        self._image = self._model = ""

    def prepare(self) -> None:
        """Judge the request, and find or make what its engine runs in and on."""
        self.clean_up()
        for warning in plan.plan(self._params, self._run, must_run=True, sweeps=True):
            print(warning)
        self._image = prepare.ensure_image(self._params, self._run)
        self._model = prepare.ensure_weights(self._params, self._run)

    def baseline(self) -> None:
        """Measure the default configuration while it records, and place experts by the recording."""
        if experts.placements(self._run).files:
            return
        with self._budget.unit("baseline"):
            subject = self._subject("baseline", "baseline", "default")
            warm = subject.model_copy(update={"purpose": "benchmark", "label": "first server", "record": False})
            other = subject.workload.model_copy(update={"seed": subject.workload.seed + 1})
            warm = warm.model_copy(update={"workload": other, "stage": None})
            found: dict[str, str] = {}
            self._visit(
                subject.deployment,
                lambda: launch.launch(
                    self._params, self._run, "baseline", self._image, self._model, record=True, placed=False
                ),
                [warm, subject] if self._warm_up else [subject],
                next_name=self._run.deployment("placed"),
                found=found,
            )
        experts.analyse(self._params, found, self._run)

    def prove(self) -> None:
        """Record once more with the placement in effect, and compare."""
        if any(uri.endswith(f"/{_PROOF}") for uri in artefacts().list("cycles", self._run.cycle_id)):
            return
        with self._budget.unit("proof"):
            subject = self._subject("placed", "experts", "placed")
            found: dict[str, str] = {}
            self._visit(
                subject.deployment,
                lambda: launch.launch(
                    self._params, self._run, "placed", self._image, self._model, record=True, placed=True
                ),
                [subject],
                next_name=self._next_trial(),
                found=found,
            )
            proofs = prove(self._request, self._run, found)
        artefacts().put_json(proofs, "cycles", self._run.cycle_id, _PROOF)
        for role, proof in proofs.items():
            print(f"{role}: {proof['reason']}")

    def tune(self) -> None:
        """Run the planned trials, the probes among them."""
        failed: list[str] = []
        with stage(self._run, "tune"):
            sweep.prepare_study(self._params, self._run)
            self._add_probes()
            while (planned := self._unfinished(failed)) != []:
                self._trial(planned[0], planned[1:2], failed)
                print(sweep.progress(self._params, self._run))

    def confirm(self) -> None:
        """Repeat the default, the probes that ran and the best in turns, so that drift cancels."""
        gpus = self._request.spec("confirm").gpus
        with stage(self._run, "confirm", gpus=gpus):
            runs = [r for r in self._repeats() if not self._was_repeated(r)]
            for index, one in enumerate(runs):
                self._trial(one, runs[index + 1 : index + 2], [])

    def conclude(self) -> Recommendation:
        """Say what is recommended, and close the cycle's page."""
        with stage(self._run, "recommend"):
            found = recommend.recommend(self._params, self._run)
        close(self._run, [])
        return found

    def clean_up(self) -> None:
        """Remove what an interrupted driver left on the target: deployments of this cycle, and its standbys."""
        target = open_target(self._request.target)
        for owned in target.list_owned():
            owner = owned.owner
            if owner is not None and (owner.dag_id, owner.installation) == (self._run.dag_id, installation()):
                target.delete(owned.name)

    # ---- trials

    def _add_probes(self) -> None:
        study = open_study(self._request, self._run)
        for probe in probes.probes(study.space, self._request.spec("probes")):
            study.enqueue(probe.point, probe.why)

    def _next_trial(self) -> str | None:
        planned = self._unfinished([])
        return self._run_of(planned[0]).deployment("trial") if planned else None

    def _run_of(self, wanted: TrialRun) -> Run:
        return Run(dag_id=self._run.dag_id, run_id=wanted.run_id, for_cycle=self._run.cycle_id)

    def _unfinished(self, failed: Sequence[str]) -> list[TrialRun]:
        study = open_study(self._request, self._run)
        if len(study.results()) >= self._request.trials:
            return []  # Also where runs failed that an earlier driver knew of and replaced.
        planned = sweep.trial_runs(self._params, self._run, len(failed))
        finished = study.finished_runs()
        return [t for t in planned if t.run_id not in finished and t.run_id not in failed]

    def _trial(self, wanted: TrialRun, after: Sequence[TrialRun], failed: list[str]) -> None:
        """One trial or repeat, from asking to telling."""
        run = self._run_of(wanted)
        params = {**self._params, **wanted.extra}
        with self._budget.unit("trial"):
            seen = Visit(run.deployment("trial"))
            with seen.part("ask"):
                asked = trial.ask(params, run)
            if asked.finished:
                return
            print(f"{wanted.run_id}: {asked.why} {asked.point}")
            try:
                self._visit_trial(params, run, asked, after, seen)
            finally:
                # A trial that was never told would be asked for again by nobody.
                try:
                    trial.tell(params, asked, run, seen.outcome, seen.last)
                except trial.TrialFailed as problem:
                    print(problem)
                    failed.append(wanted.run_id)
        if len(failed) >= _HOPELESS and failed[-1] == wanted.run_id:
            raise sweep.SweepFailed(f"{len(failed)} trials failed, the last one {wanted.run_id}; see what they said")

    def _visit_trial(
        self, params: Mapping[str, Any], run: Run, asked: trial.Try, after: Sequence[TrialRun], seen: Visit
    ) -> None:
        """Fill in ``seen``; a failure that says nothing about the configuration is said, and nothing was measured."""
        try:
            self._visit(
                asked.deployment,
                lambda: launch.launch_trial(params, asked, run, self._image, self._model),
                [trial.subject(params, asked, run)],
                run=run,
                next_name=self._run_of(after[0]).deployment("trial") if after else None,
                seen=seen,
            )
        except WideloopError as problem:
            print(f"{asked.label}: {problem}")

    def _repeats(self) -> list[TrialRun]:
        """Each round the other way round: a, b, c, then c, b, a."""
        study = open_study(self._request, self._run)
        best = study.best()
        if best is None:
            raise sweep.SweepFailed("no trial met the objectives, so there is nothing to confirm")
        rows = [study.number_of(why) for why in (trial.DEFAULT, probes.PLACEMENT, probes.REDUNDANCY)]
        feasible = {r.number for r in study.results() if r.outcome == "measured"}
        numbers = list(dict.fromkeys(n for n in (*rows, best.number) if n in feasible))
        runs = []
        for k in range(self._request.repeats):
            for number in numbers if k % 2 == 0 else reversed(numbers):
                extra = {"repeat_of": number, "repeat": k}
                runs.append(TrialRun(run_id=f"{self._run.cycle_id}__repeat_{k:02d}_{number}", extra=extra))
        return runs

    def _was_repeated(self, wanted: TrialRun) -> bool:
        number, repeat = wanted.extra["repeat_of"], wanted.extra["repeat"]
        with open_store() as store:
            found = store.measurements(cycle_id=self._run.cycle_id, purpose="repeat")
        return any(m.trial_number == number and m.repeat == repeat for m in found)

    # ---- deployments

    def _subject(self, kind: str, purpose: Any, label: str) -> Subject:
        """The whole workload on this run's deployment of that kind, recorded."""
        name = self._run.deployment(kind)
        return launch.subject(self._params, self._run, name, purpose, label, repeat=0, record=True, stage=kind)

    def _visit(
        self,
        name: str,
        apply: Any,
        subjects: Sequence[Subject],
        *,
        run: Run | None = None,
        next_name: str | None = None,
        found: dict[str, str] | None = None,
        seen: Visit | None = None,
    ) -> Visit:
        """Visit a deployment, collect its recording into ``found`` when given, and keep an entry of it."""
        figures: dict[str, Any] = {}
        target = open_target(self._request.target)

        def stand_by() -> None:
            if next_name is not None:
                later = self._request.spec(next_name, self._image, self._model)
                target.stand_by(later, self._run.owner)

        def look() -> None:
            if found is not None:
                found.update(experts.dump(self._request.target, name, self._run))
            figures.update(journal.engine_figures(self._request.target, name))

        applied: list[DeploymentSpec] = []

        def keep() -> None:
            applied.append(target.spec(name))
            journal.keep_log(self._request.target, name, self._run)

        def write(seen: Visit) -> None:
            if applied:
                journal.write(self._run, seen, subjects[-1], applied[0], figures)

        seen = visit(
            self._request.target,
            name,
            run or self._run,
            apply,
            subjects,
            meanwhile=stand_by,
            before_end=look,
            at_end=keep,
            afterwards=write,
            seen=seen,
        )
        if seen.last is not None:
            print(f"{subjects[-1].label}: {summary(seen.last)}; ours {seen.overhead_s:.1f} s")
        return seen
