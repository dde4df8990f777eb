"""One trial: ask the study for a point, give its deployment, and report the result to the study."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict
from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.diagnosis import Diagnosis
from wideloop.manifests.errors import DeploymentFailed, WideloopError
from wideloop.manifests.findings import Finding
from wideloop.manifests.workload import Slo, Workload
from wideloop.operators.request import Request, RunOptions
from wideloop.operators.steps.benchmark import Measured, Subject
from wideloop.operators.steps.deployment import Outcome
from wideloop.operators.steps.experts import placements
from wideloop.operators.steps.plan import check, goes_on_with, open_study
from wideloop.operators.steps.run import Run, artefacts, open_store
from wideloop.results.failed_repeats import FailedRepeat, keep_failed_repeat
from wideloop.results.records import Measurement, Trial
from wideloop.tuning.space import Placements, Point, knobs_at, knobs_shown
from wideloop.tuning.study import OUT_OF_MEMORY, TuningStudy

#: Constraint of a configuration that exceeds a limit of the engine other than memory.
ENGINE_LIMIT = "engine_limit"
#: Of what a lost trial shows: an error's first lines; a log's are in the run's log.
_LONGEST_REASON = 600
log = logging.getLogger(__name__)

#: Kind of the trial that stands for the configuration of the form.
DEFAULT = "default"


class TrialFailed(WideloopError):
    """Nothing was learned about the trial's configuration; the study proposes it once more."""


class AskedTrial(BaseModel):
    """The trial that a run measures. ``repeat`` numbers a measurement of a finished trial's configuration.

    ``kind``: which seed of the study it is; empty in what a run asked before there were kinds.
    """

    model_config = ConfigDict(frozen=True)

    number: int
    point: Point
    kind: str = ""
    why: str
    deployment: str
    repeat: int | None = None
    finished: bool = False

    @property
    def is_default(self) -> bool:
        return (self.kind or self.why) == DEFAULT

    @property
    def label(self) -> str:
        return "default" if self.is_default else f"trial {self.number}"


def ask(params: Mapping[str, Any], run: Run) -> AskedTrial:
    """The trial of this run (a retry gets the same one), or the repeat its params name."""
    request = Request.from_params(params)
    with open_store() as store:
        goes_on_with(request, run, store)
    study = open_study(request, run)
    name = run.deployment("trial")
    options = RunOptions.from_params(params)
    if options.repeat_of is not None:
        return _repeat(study, options.repeat_of, options.repeat, name)
    asked = study.ask(run.run_id)
    trial = AskedTrial(**asked.model_dump(), deployment=name)
    if asked.finished:
        return trial
    spec = spec_of(trial, request, placements(run), "", "")
    refusal = next((f for f in check(spec) if f.severity == "error"), None)
    if refusal is not None:
        return _refused(study, trial, spec, run, refusal)
    with open_store() as store:
        store.put(_record(trial, spec, run, state="running", started_at=_started(run, trial)))
    return trial


def _refused(study: TuningStudy, trial: AskedTrial, spec: DeploymentSpec, run: Run, refusal: Finding) -> AskedTrial:
    """End a trial whose engine or placement would be refused, without a deployment."""
    log.info("trial %d is infeasible, nothing is deployed: %s", trial.number, refusal)
    study.tell_refused(trial.number)
    now = datetime.now(UTC)
    ended = {"state": "infeasible", "reason": str(refusal), "constraints": {ENGINE_LIMIT: 1.0}, "ended_at": now}
    with open_store() as store:
        store.put(_record(trial, spec, run, started_at=now, **ended))
    return trial.model_copy(update={"finished": True})


def _repeat(study: TuningStudy, number: int, repeat: int, deployment: str) -> AskedTrial:
    result = study.result(number)
    return AskedTrial(
        number=number,
        point=result.point,
        kind=study.kind(number),
        why=study.why(number),
        deployment=deployment,
        repeat=repeat,
    )


def spec_of(trial: AskedTrial, request: Request, placed: Placements, image: str, model_path: str) -> DeploymentSpec:
    """The deployment of a trial: the default unchanged, any other with the recorded placement."""
    spec = request.spec(trial.deployment, image, model_path)
    return spec if trial.is_default else spec.with_knobs(trial.deployment, knobs_at(trial.point, spec, placed))


def spec_for(params: Mapping[str, Any], trial: AskedTrial, run: Run, image: str, model_path: str) -> DeploymentSpec:
    """The spec to apply for a trial of this run's cycle."""
    return spec_of(trial, Request.from_params(params), placements(run), image, model_path)


def subject(params: Mapping[str, Any], trial: AskedTrial, run: Run) -> Subject:
    """What to measure: a trial at the highest level only, a repeat at all of them."""
    request = Request.from_params(params)
    workload = request.workload if trial.repeat is not None else highest(request.workload)
    return Subject(
        run_id=run.run_id,
        target=request.target,
        deployment=trial.deployment,
        purpose="trial" if trial.repeat is None else "repeat",
        label=trial.label,
        workload=workload,
        trial_number=trial.number,
        repeat=trial.repeat or 0,
    )


def highest(workload: Workload) -> Workload:
    """The same workload at its highest level of concurrency only."""
    return Workload(**{**dict(workload), "concurrency": (max(workload.concurrency),)})


def tell(
    params: Mapping[str, Any],
    trial: AskedTrial,
    run: Run,
    start_outcome: Outcome | None,
    benchmark_result: Measured | None,
) -> Trial | None:
    """Give the study and the store the result of a trial; each argument is None when its task failed.

    Raises:
        TrialFailed: nothing was learned; the run fails, so that its grid shows it.
    """
    if trial.repeat is not None:
        _check_repeat(trial, run, start_outcome, benchmark_result)
        return None
    request = Request.from_params(params)
    update = _tell_study(open_study(request, run), trial, request.slo, start_outcome, benchmark_result)
    if update["state"] == "failed" and benchmark_result is None:
        update["reason"] = _failure_reason(None, _noted(run, trial))
    spec = spec_of(trial, request, placements(run), "", "")
    record = _record(
        trial,
        spec,
        run,
        started_at=_started(run, trial),
        ended_at=datetime.now(UTC),
        phases=_seconds_by_part(start_outcome, benchmark_result),
        **update,
    )
    with open_store() as store:
        store.put(record)
    if record.state == "failed":
        raise TrialFailed(f"trial {trial.number}: {record.reason}")
    return record


def _check_repeat(trial: AskedTrial, run: Run, start_outcome: Outcome | None, result: Measured | None) -> None:
    diagnosis = _diagnosis(start_outcome, result)
    if diagnosis is not None:
        reason = f"{diagnosis.kind.replace('_', ' ')}: {diagnosis.message}"
        failed = FailedRepeat(trial_number=trial.number, repeat=trial.repeat or 0, reason=reason)
        keep_failed_repeat(artefacts(), run.cycle_id, failed)
        raise TrialFailed(f"repeat {trial.repeat} of {trial.label}: {reason}")
    if result is None or result.outcome != "measured":
        raise TrialFailed(f"repeat {trial.repeat} of {trial.label} was not measured")
    if not result.top.valid:
        raise TrialFailed(f"repeat {trial.repeat} of {trial.label}: {_failure_reason(result)}")


def _tell_study(
    study: TuningStudy, trial: AskedTrial, slo: Slo, start_outcome: Outcome | None, result: Measured | None
) -> dict[str, Any]:
    """Finish the trial in the study; returns the fields of its record that say how it ended."""
    diagnosis = _diagnosis(start_outcome, result)
    if diagnosis is not None:
        return _tell_infeasible(study, trial, diagnosis)
    if result is not None and (result.top.valid or fails_requests(result.top, slo)):
        top = result.top
        constraints = violations(top, slo)
        study.tell_measured(trial.number, top.output_tok_s_per_gpu, constraints)
        value = {"value": top.output_tok_s_per_gpu, "concurrency": top.concurrency}
        return {"state": "complete", **value, "constraints": constraints}
    study.tell_failed(trial.number)
    return {"state": "failed", "reason": _failure_reason(result)}


def _tell_infeasible(study: TuningStudy, trial: AskedTrial, diagnosis: Diagnosis) -> dict[str, Any]:
    """Tell that the configuration cannot run; a limit of the engine other than memory says nothing about memory."""
    if diagnosis.kind != "out_of_memory":
        study.tell_refused(trial.number)
        return {"state": "infeasible", "reason": diagnosis.message, "constraints": {ENGINE_LIMIT: 1.0}}
    study.tell_infeasible(trial.number, diagnosis.deficit_gib)
    # The log rarely says how much was missing; then the memory model may.
    deficit = diagnosis.deficit_gib or max(-study.headroom_gib(trial.point), 0.0) or 1.0
    reason = f"out of memory: {diagnosis.message}"
    return {"state": "infeasible", "reason": reason, "constraints": {OUT_OF_MEMORY: deficit}}


def _seconds_by_part(start_outcome: Outcome | None, result: Measured | None) -> dict[str, float]:
    seconds = {"client": result.client_seconds} if result else {}
    if start_outcome is not None and start_outcome.start_seconds is not None:
        seconds["start"] = start_outcome.start_seconds
    return seconds


def fails_requests(measurement: Measurement, slo: Slo) -> bool:
    """Whether the engine failed requests though the client kept up: then the error rate is a missed objective."""
    client = next((g for g in measurement.gates if g.name == "client_delay"), None)
    return measurement.error_rate > slo.error_rate and (client is None or client.ok)


def violations(measurement: Measurement, slo: Slo) -> dict[str, float]:
    """How far each objective is missed, relative to its limit; <= 0 is met."""
    return {
        "ttft_p99": measurement.ttft_ms_p99 / slo.ttft_p99_ms - 1,
        "tpot_p99": measurement.tpot_ms_p99 / slo.tpot_p99_ms - 1,
        "error_rate": measurement.error_rate - slo.error_rate,
    }


def _diagnosis(start_outcome: Outcome | None, result: Measured | None) -> Diagnosis | None:
    if start_outcome is not None and start_outcome.state == "infeasible":
        return start_outcome.diagnosis
    return result.diagnosis if result is not None and result.outcome == "infeasible" else None


def note_failure(run: Run, error: WideloopError) -> None:
    """Keep why the trial that this run measures may be lost: the step that tells its result knows only that it is."""
    reason = str(error)
    if isinstance(error, DeploymentFailed):
        diagnosis = error.diagnosis
        reason = f"[{diagnosis.kind}] {diagnosis.component}: {diagnosis.message} -> {diagnosis.action}"
    with open_store() as store:
        running = [t for t in store.trials(study=run.cycle_id) if t.dag_run_id == run.run_id and t.state == "running"]
        store.put(*(t.model_copy(update={"reason": reason[:_LONGEST_REASON]}) for t in running))


def _noted(run: Run, trial: AskedTrial) -> str:
    with open_store() as store:
        records = [t for t in store.trials(study=run.cycle_id) if t.number == trial.number]
    return next((t.reason for t in records if t.dag_run_id == run.run_id), None) or ""


def _failure_reason(result: Measured | None, noted: str = "") -> str:
    if result is None:
        return noted or "its tasks ended without an error: they were killed, or marked by hand"
    failed = "; ".join(f"{g.name} = {g.value} (limit {g.limit})" for g in result.top.gates if not g.ok)
    return f"the measurement is invalid (gate failed): {failed}"


def _started(run: Run, trial: AskedTrial) -> datetime:
    with open_store() as store:
        records = [t for t in store.trials(study=run.cycle_id) if t.number == trial.number]
    return records[0].started_at if records and records[0].dag_run_id == run.run_id else datetime.now(UTC)


def _record(trial: AskedTrial, spec: DeploymentSpec, run: Run, **rest: Any) -> Trial:
    ended = rest.get("ended_at")
    seconds = (ended - rest["started_at"]).total_seconds() if ended else 0.0
    return Trial(
        study=run.cycle_id,
        number=trial.number,
        cycle_id=run.cycle_id,
        dag_run_id=run.run_id,
        point=trial.point,
        knobs=knobs_shown(spec, trial.point),
        is_default=trial.is_default,
        deployment=trial.deployment,
        gpu_seconds=seconds * spec.gpus,
        **rest,
    )
