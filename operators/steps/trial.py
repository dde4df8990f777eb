"""One trial: ask the study, apply what it wants tried, tell it what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict
from wideloop.manifests.deployment import DeploymentSpec, WorkerSpec
from wideloop.manifests.errors import WideloopError
from wideloop.manifests.workload import Slo, Workload
from wideloop.operators.request import Request
from wideloop.operators.steps.benchmark import Measured, Subject
from wideloop.operators.steps.deployment import Outcome
from wideloop.operators.steps.experts import placements
from wideloop.operators.steps.plan import goes_on_with, open_study
from wideloop.operators.steps.run import Run, open_store
from wideloop.results.records import Measurement, Trial
from wideloop.tuning.space import Placements, Point, decoder, knobs_at
from wideloop.tuning.study import OUT_OF_MEMORY

#: Why-mark of the trial that stands for the configuration of the form.
DEFAULT = "default"


class TrialFailed(WideloopError):
    """The trial says nothing about its configuration; the study will ask for it again."""


class Try(BaseModel):
    """What this run is to try. ``repeat`` numbers a measurement of a finished trial's configuration."""

    model_config = ConfigDict(frozen=True)

    number: int
    point: Point
    why: str
    deployment: str
    repeat: int | None = None
    finished: bool = False

    @property
    def is_default(self) -> bool:
        return self.why == DEFAULT

    @property
    def label(self) -> str:
        return "default" if self.is_default else f"trial {self.number}"


def ask(params: Mapping[str, Any], run: Run) -> Try:
    """The trial of this run (a retry gets the same one), or the repeat its params name."""
    request = Request.from_params(params)
    with open_store() as store:
        goes_on_with(request, run, store)
    study = open_study(request, run)
    name = run.deployment("trial")
    if params.get("repeat_of") is not None:
        result = study.result(int(params["repeat_of"]))
        why = study.why(result.number)
        return Try(number=result.number, point=result.point, why=why, deployment=name, repeat=int(params["repeat"]))
    asked = study.ask(run.run_id)
    trial = Try(number=asked.number, point=asked.point, why=asked.why, deployment=name, finished=asked.finished)
    if not asked.finished:
        spec = spec_of(trial, request, Placements(), "", "")
        with open_store() as store:
            store.put(_record(trial, spec, run, state="running", started_at=_started(run, trial)))
    return trial


def spec_of(trial: Try, request: Request, placed: Placements, image: str, model_path: str) -> DeploymentSpec:
    """The deployment a trial stands for: the default as it is, any other with the recorded placement."""
    spec = request.spec(trial.deployment, image, model_path)
    return spec if trial.is_default else spec.with_knobs(trial.deployment, knobs_at(trial.point, spec, placed))


def spec_for(params: Mapping[str, Any], trial: Try, run: Run, image: str, model_path: str) -> DeploymentSpec:
    """The spec to apply for a trial of this run's cycle."""
    return spec_of(trial, Request.from_params(params), placements(run), image, model_path)


def subject(params: Mapping[str, Any], trial: Try, run: Run) -> Subject:
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
    return workload.model_copy(update={"concurrency": (max(workload.concurrency),)})


def tell(
    params: Mapping[str, Any], trial: Try, run: Run, waited: Outcome | None, measured: Measured | None
) -> Trial | None:
    """Tell the study and the store what came of a trial.

    ``waited`` and ``measured`` are None when that task failed.

    Raises:
        TrialFailed: nothing was learned; the run must not look as if it was.
    """
    if trial.repeat is not None:
        if measured is None or measured.outcome != "measured":
            raise TrialFailed(f"repeat {trial.repeat} of {trial.label} was not measured")
        if not measured.top.valid:
            raise TrialFailed(f"repeat {trial.repeat} of {trial.label}: {_why_not(measured)}")
        return None
    request = Request.from_params(params)
    study = open_study(request, run)
    spec = spec_of(trial, request, placements(run), "", "")
    record = _record(trial, spec, run, state="failed", started_at=_started(run, trial), ended_at=datetime.now(UTC))
    diagnosis = _diagnosis(waited, measured)
    if diagnosis is not None:
        deficit = diagnosis.deficit_gib or 1.0
        study.tell_infeasible(trial.number, deficit)
        update: dict[str, Any] = {
            "state": "infeasible",
            "reason": f"out of memory: {diagnosis.message}",
            "constraints": {OUT_OF_MEMORY: deficit},
        }
    elif measured is not None and (measured.top.valid or _fails_requests(measured.top, request.slo)):
        constraints = violations(measured.top, request.slo)
        study.tell_measured(trial.number, measured.top.output_tok_s_per_gpu, constraints)
        update = {"state": "complete", "value": measured.top.output_tok_s_per_gpu, "constraints": constraints}
    else:
        study.tell_failed(trial.number)
        update = {"reason": _why_not(measured)}
    phases = {"client": measured.client_seconds} if measured else {}
    if waited is not None and waited.start_seconds is not None:
        phases["start"] = waited.start_seconds
    record = record.model_copy(update=update | {"phases": phases})
    with open_store() as store:
        store.put(record)
    if record.state == "failed":
        raise TrialFailed(f"trial {trial.number}: {record.reason}")
    return record


def _fails_requests(measurement: Measurement, slo: Slo) -> bool:
    """The engine failed requests that a client in good order sent: an objective missed, not a broken measurement."""
    client = next((g for g in measurement.gates if g.name == "client_delay"), None)
    return measurement.error_rate > slo.error_rate and (client is None or client.ok)


def violations(measurement: Measurement, slo: Slo) -> dict[str, float]:
    """How far each objective is missed, relative to its limit; <= 0 is met."""
    return {
        "ttft_p99": measurement.ttft_ms_p99 / slo.ttft_p99_ms - 1,
        "tpot_p99": measurement.tpot_ms_p99 / slo.tpot_p99_ms - 1,
        "error_rate": measurement.error_rate - slo.error_rate,
    }


def _diagnosis(waited: Outcome | None, measured: Measured | None) -> Any:
    if waited is not None and waited.state == "infeasible":
        return waited.diagnosis
    return measured.diagnosis if measured is not None and measured.outcome == "infeasible" else None


def _why_not(measured: Measured | None) -> str:
    if measured is None:
        return "the deployment or its benchmark failed; see the run's log"
    broken = "; ".join(f"{g.name} = {g.value} (limit {g.limit})" for g in measured.top.gates if not g.ok)
    return f"the measurement is not to be believed: {broken}"


def _started(run: Run, trial: Try) -> datetime:
    with open_store() as store:
        known = [t for t in store.trials(study=run.cycle_id) if t.number == trial.number]
    return known[0].started_at if known and known[0].dag_run_id == run.run_id else datetime.now(UTC)


def _record(trial: Try, spec: DeploymentSpec, run: Run, **rest: Any) -> Trial:
    ended = rest.get("ended_at")
    seconds = (ended - rest["started_at"]).total_seconds() if ended else 0.0
    return Trial(
        study=run.cycle_id,
        number=trial.number,
        cycle_id=run.cycle_id,
        dag_run_id=run.run_id,
        point=trial.point,
        knobs=knobs_shown(spec),
        is_default=trial.is_default,
        gpu_seconds=seconds * spec.gpus,
        **rest,
    )


def knobs_shown(spec: DeploymentSpec) -> dict[str, Any]:
    """The knobs people compare, by role: those of the space, and whether experts are placed by a recording."""
    decoding = decoder(spec).role
    return {w.role: _shown(w, decodes=w.role == decoding) for w in spec.workers}


def _shown(worker: WorkerSpec, *, decodes: bool) -> dict[str, Any]:
    knobs = worker.knobs
    shown: dict[str, Any] = {
        "redundant_experts": knobs.redundant_experts,
        "placement": "recorded" if knobs.expert_placement else "trivial",
    }
    if decodes:
        shown |= {"mem_fraction_static": knobs.mem_fraction_static, "cuda_graph_max_bs": knobs.cuda_graph_max_bs}
    if worker.role != "decode":
        shown["chunked_prefill_size"] = knobs.chunked_prefill_size
    return shown
