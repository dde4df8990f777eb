"""Benchmark a running deployment: flush, start the client, wait outside, read what it measured."""

from __future__ import annotations

import hashlib
import json
from typing import Literal

from pydantic import BaseModel, ConfigDict
from wideloop.manifests.clients import get_load_generator
from wideloop.manifests.diagnosis import Diagnosis
from wideloop.manifests.engines import get_engine
from wideloop.manifests.errors import ClientFailed, DeploymentFailed, TargetError
from wideloop.manifests.telemetry import FOLDER as TELEMETRY
from wideloop.manifests.telemetry import SUFFIXES, with_sampler
from wideloop.manifests.workload import Workload
from wideloop.operators.request import is_simulated
from wideloop.operators.steps.answers import keep_answers
from wideloop.operators.steps.cache_capacity import cache_tokens
from wideloop.operators.steps.deployment import ailment
from wideloop.operators.steps.evidence import keep_deployment, keep_pages, telemetry_figures, telemetry_sources
from wideloop.operators.steps.plan import gpus
from wideloop.operators.steps.rebalancing import keep_rebalances
from wideloop.operators.steps.run import Run, artefacts, end_stage, open_store
from wideloop.operators.targets import open_target
from wideloop.operators.targets.base import ClientStatus, Target
from wideloop.results.benchmark import LEAST_TPOT_MS, read_levels
from wideloop.results.gates import gates
from wideloop.results.records import LevelFigures, Measurement, Purpose
from wideloop.results.telemetry import read_samples
from wideloop.tuning.least_tpot import least_tpot_ms
from wideloop.tuning.memory import GIB, worker_memory

#: Seconds that an engine may take to finish its running requests before its cache can be flushed.
_FLUSH_WAIT_S = 60


class Subject(BaseModel):
    """The deployment to measure, and all that a measurement's record needs beyond its numbers.

    ``run_id`` is the DAG run that measures: a retry finds the client of its run, another run starts its own.

    ``stage`` is the stage of the timeline that this benchmark completes, if it does.
    """

    model_config = ConfigDict(frozen=True)

    run_id: str
    target: str
    deployment: str
    purpose: Purpose
    label: str
    workload: Workload
    trial_number: int | None = None
    repeat: int = 0
    record: bool = False
    stage: str | None = None

    @property
    def client(self) -> str:
        """The client's name beside its deployment: one per run and workload."""
        return "bench-" + hashlib.sha256(f"{self.run_id}/{self.workload.fingerprint}".encode()).hexdigest()[:12]


class Measured(BaseModel):
    """Result of a benchmark. ``infeasible``: the configuration made the engine die under load."""

    model_config = ConfigDict(frozen=True)

    outcome: Literal["measured", "infeasible"]
    diagnosis: Diagnosis | None = None
    measurements: tuple[Measurement, ...] = ()
    client_seconds: float = 0.0

    @property
    def top(self) -> Measurement:
        """The measurement at the highest concurrency; configurations are compared by it."""
        return max(self.measurements, key=lambda m: m.concurrency)


def cannot_serve(subject: Subject) -> Diagnosis | None:
    """Whether a worker's KV cache cannot hold even one request: then every request fails, however it is sent.

    Only what the engine itself says counts, see :func:`cache_tokens`.
    """
    target = open_target(subject.target)
    spec = target.spec(subject.deployment)
    need = subject.workload.isl + subject.workload.osl
    for component, tokens in cache_tokens(target, spec).items():
        if tokens < need:
            worker = next((w for w in spec.workers if component.startswith(w.role)), spec.workers[-1])
            missing = (need - tokens) * worker_memory(spec, worker).kv_bytes_per_token / GIB
            return Diagnosis(
                kind="out_of_memory",
                component=component,
                message=f"its KV cache holds {tokens} tokens, one request needs {need}",
                action="raise mem_fraction_static, use fewer redundant experts or shorter requests",
                deficit_gib=missing,
            )
    return None


def begin(subject: Subject) -> None:
    """Flush every worker, start recording when asked, start the client; a retry finds it running.

    Raises:
        TargetError: a worker refused to flush or to record.
    """
    target = open_target(subject.target)
    spec = target.spec(subject.deployment)
    if target.client_status(subject.deployment, subject.client).state != "absent":
        return
    engine = get_engine(spec.engine)
    workers = target.endpoints(subject.deployment).control
    flush, body = engine.flush_call(_FLUSH_WAIT_S)
    try:
        for worker in workers:
            answers = target.call_all(subject.deployment, worker, flush, body=body, timeout_s=_FLUSH_WAIT_S + 10)
            refusal = next(filter(None, map(engine.refusal, answers)), None)
            if refusal is not None:
                raise TargetError(f"{worker} of {subject.deployment} did not flush its cache: {refusal}")
        if subject.record and engine.recorder is not None and spec.record_experts is not None:
            for worker in workers:
                target.call_all(subject.deployment, worker, engine.recorder.start_path)
    except TargetError:
        if target.status(subject.deployment).state == "failed":
            return  # It died since it was ready; ``finish`` reports the diagnosis.
        raise
    generator = get_load_generator(subject.workload.client)
    command = generator.command(
        subject.workload,
        url=target.endpoints(subject.deployment).frontend,
        model=spec.model.name,
        tokenizer_dir=spec.model_path,
        out_dir=target.client_dir(subject.deployment, subject.client),
        cache_dir=target.client_cache_dir,
    )
    sampled = with_sampler(
        command, telemetry_sources(target, spec), target.client_dir(subject.deployment, subject.client)
    )
    target.run_client(subject.deployment, subject.client, sampled, generator.environment)


def finish(subject: Subject, run: Run) -> Measured:
    """Read, store and judge what the client measured.

    Raises:
        ClientFailed: the client failed although the deployment lives.
        DeploymentFailed: the deployment died for a reason other than its configuration.
    """
    target = open_target(subject.target)
    client = target.client_status(subject.deployment, subject.client)
    diagnosis = ailment(subject.target, subject.deployment, subject.client)
    keep_deployment(subject.target, subject.deployment, run)
    if diagnosis is not None:
        target.stop_client(subject.deployment, subject.client)
        if diagnosis.lies_in_configuration:
            return Measured(outcome="infeasible", diagnosis=diagnosis, client_seconds=client.seconds)
        raise DeploymentFailed(subject.deployment, diagnosis)
    try:
        measurements = _measurements(subject, run, target, client)
    except ClientFailed:
        target.stop_client(subject.deployment, subject.client)
        raise
    with open_store() as store:
        store.put(*measurements)
    keep_rebalances(subject.target, subject.deployment, run)
    if subject.purpose == "repeat" and subject.trial_number is not None:
        keep_answers(subject.target, subject.deployment, run, subject.trial_number, subject.repeat)
    if subject.stage:
        end_stage(run, subject.stage, "success", gpus=measurements[0].gpus)
    return Measured(outcome="measured", measurements=measurements, client_seconds=client.seconds)


def stop(subject: Subject) -> None:
    """End the client, whatever it is doing."""
    open_target(subject.target).stop_client(subject.deployment, subject.client)


def _measurements(subject: Subject, run: Run, target: Target, client: ClientStatus) -> tuple[Measurement, ...]:
    spec = target.spec(subject.deployment)
    generator = get_load_generator(subject.workload.client)
    suffixes = (*generator.result_suffixes, *SUFFIXES) if generator.result_suffixes else ()
    folder = target.collect(subject.deployment, subject.client, suffixes)
    # Before the exit status is looked at: the files say more about a client that failed.
    least_tpot = max(LEAST_TPOT_MS, least_tpot_ms(spec))
    levels = read_levels(folder, subject.workload, client.log_tail, least_tpot)
    if client.state != "succeeded":
        log_tail = "\n".join(client.log_tail)
        raise ClientFailed(f"{subject.workload.client} ended with status {client.exit_code}:\n{log_tail}")
    keep_pages(target, subject.deployment, subject.client, levels, folder, run)
    keep = artefacts()
    parts = ("cycles", run.cycle_id, "benchmarks", subject.deployment)
    uris = [
        keep.put_file(file, *parts, *file.relative_to(folder).parts)
        for file in sorted(folder.rglob("*"))
        if file.is_file() and (file.parent.name == TELEMETRY or generator.keeps(file.name))
    ]
    artefact = uris[0].rsplit(subject.deployment, 1)[0] + subject.deployment if uris else ""
    every, decoding = gpus(spec)
    samples = read_samples(folder)
    return tuple(
        Measurement(
            cycle_id=run.cycle_id,
            purpose=subject.purpose,
            label=subject.label,
            trial_number=subject.trial_number,
            repeat=subject.repeat,
            spec_fingerprint=spec.fingerprint,
            image=spec.image,
            engine=spec.engine,
            simulated=is_simulated(spec.engine),
            workload_fingerprint=subject.workload.fingerprint,
            isl=subject.workload.isl,
            osl=subject.workload.osl,
            gpus=every,
            decode_gpus=decoding,
            gates=gates(level, subject.workload),
            artefact=artefact,
            **level.model_dump(include=set(LevelFigures.model_fields)),
            **telemetry_figures(level, samples, every),
        )
        for level in levels
    )


def summary(measured: Measured) -> str:
    """One line for a task's log."""
    if measured.outcome == "infeasible" or not measured.measurements:
        return f"infeasible: {measured.diagnosis}"
    top = measured.top
    numbers = {
        "concurrency": top.concurrency,
        "output_tok_s": round(top.output_tok_s, 1),
        "ttft_p99_ms": round(top.ttft_ms_p99),
        "tpot_p99_ms": round(top.tpot_ms_p99, 1),
        "output_tok_per_joule": round(top.output_tok_per_joule, 3) if top.output_tok_per_joule else None,
        "gates": "passed" if top.valid else [g.name for g in top.gates if not g.ok],
    }
    return ("SIMULATED " if top.simulated else "") + json.dumps(numbers)
