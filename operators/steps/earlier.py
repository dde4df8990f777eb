"""The configuration of an earlier cycle's trial, as it was measured: to deploy it, or to print its documents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.errors import Refused, refuse
from wideloop.manifests.findings import Finding, unknown
from wideloop.operators.request import UNKNOWN, Request, RunOptions, as_stored
from wideloop.operators.steps.configurations import check
from wideloop.operators.steps.experts import placements
from wideloop.operators.steps.plan import open_cycle, warnings_left
from wideloop.operators.steps.run import Run, open_store
from wideloop.operators.steps.trial import DEFAULT, AskedTrial, spec_of
from wideloop.results.records import Cycle, Measurement, Recommendation, Trial


@dataclass(frozen=True)
class EarlierTrial:
    """A trial of a cycle that has ended, or still runs.

    Attributes:
        measurement: the last one of it; None where it was not measured.
    """

    cycle: Cycle
    request: Request
    trial: Trial
    measurement: Measurement | None

    def spec(self, name: str, image: str = UNKNOWN, model_path: str = UNKNOWN) -> DeploymentSpec:
        """Its deployment under ``name``, with its placement; by default with the image and weights it had."""
        trial = self.trial
        asked_trial = AskedTrial(
            number=trial.number,
            point=trial.point,
            kind=DEFAULT if trial.is_default else "trial",
            why="",
            deployment=name,
        )
        of_cycle = Run(dag_id=self.cycle.dag_id, run_id=self.cycle.dag_run_id, for_cycle=self.cycle.cycle_id)
        if image == UNKNOWN and self.measurement is not None:
            image = self.measurement.image
        if model_path == UNKNOWN:
            model_path = self._model_path()
        return spec_of(asked_trial, self.request, placements(of_cycle), image, model_path)

    def _model_path(self) -> str:
        with open_store() as store:
            asset = store.asset("weights", f"{self.request.target}/{self.request.model}")
        return asset.value if asset is not None else UNKNOWN


def earlier_trial(cycle_id: str, number: int | None = None) -> EarlierTrial:
    """The trial ``number`` of a cycle; by default the configuration that it recommends.

    Raises:
        Refused: there is no such cycle or trial, or nothing was recommended.
    """
    with open_store() as store:
        cycle = store.cycle(cycle_id)
        if cycle is None:
            raise Refused([unknown("from_cycle", cycle_id, [c.cycle_id for c in store.cycles()])])
        trials = store.trials(study=cycle.study or cycle_id)
        measured = store.measurements(cycle_id=cycle_id)
        recommendation = store.recommendation(cycle_id)
    trial = _chosen(cycle_id, number, trials, recommendation)
    own = [m for m in measured if _is_of(m, trial)]
    request = Request.model_validate(as_stored(cycle.request))
    return EarlierTrial(cycle, request, trial, own[-1] if own else None)


def _chosen(cycle_id: str, number: int | None, trials: list[Trial], recommendation: Recommendation | None) -> Trial:
    if number is None and recommendation is not None:
        if recommendation.verdict == "adopt":
            number = recommendation.trial_number
        else:
            number = next((t.number for t in trials if t.is_default), None)
    trial = next((t for t in trials if t.number == number), None)
    if trial is not None:
        return trial
    rule = f"cycle {cycle_id} has no such trial"
    if number is None:
        rule = f"cycle {cycle_id} recommends nothing so far, so the trial must be named"
    works = ", ".join(str(t.number) for t in trials) or "a trial of a cycle that has some"
    raise Refused([Finding(field="from_trial", value=number, rule=rule, suggestion=f"Use one of: {works}")])


def _is_of(measurement: Measurement, trial: Trial) -> bool:
    if trial.is_default and measurement.purpose == "baseline":
        return True
    return measurement.trial_number == trial.number


def named_trial(params: Mapping[str, Any]) -> EarlierTrial | None:
    """The earlier trial that a run's params name; None where they describe a configuration of their own.

    Raises:
        Refused: there is none of that name, or the form names another target than the cycle ran on.
    """
    options = RunOptions.from_params(params)
    if options.from_cycle is None:
        return None
    earlier = earlier_trial(options.from_cycle, options.from_trial)
    target = params.get("target", earlier.request.target)
    if target != earlier.request.target:
        rule = f"cycle {options.from_cycle} ran on another one"
        works = f"Use {earlier.request.target}"
        raise Refused([Finding(field="target", value=target, rule=rule, suggestion=works)])
    return earlier


def request_of(params: Mapping[str, Any]) -> Request:
    """The request of a run: that of the earlier cycle that it names, or the form's."""
    earlier = named_trial(params)
    return earlier.request if earlier is not None else Request.from_params(params)


def spec_of_run(params: Mapping[str, Any], name: str, image: str, model_path: str) -> DeploymentSpec:
    """The deployment that a run starts under ``name``: the earlier trial that it names, or the form's configuration."""
    earlier = named_trial(params)
    if earlier is not None:
        return earlier.spec(name, image, model_path)
    return Request.from_params(params).spec(name, image, model_path)


def plan_earlier(earlier: EarlierTrial, run: Run) -> list[str]:
    """Judge an earlier trial's deployment and open the page of the run that starts it; returns the warnings.

    Raises:
        Refused: it cannot work, for instance because its placement is no longer there.
    """
    spec = earlier.spec("plan")
    findings = check(spec)
    refuse(f.changed(severity="error") for f in findings if f.severity != "warning")
    open_cycle(earlier.request, spec, findings, run)
    return warnings_left(earlier.request, findings)
