"""Have every worker write its expert recording, collect the files of all ranks, and store what they contain."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from wideloop.manifests.deployment import DeploymentSpec, WorkerSpec
from wideloop.manifests.engines import get_engine
from wideloop.manifests.engines.expert_recorder import ExpertRecorder
from wideloop.manifests.errors import TargetError
from wideloop.manifests.workload import Workload
from wideloop.operators.request import is_simulated
from wideloop.operators.settings import settings
from wideloop.operators.steps.run import Run, artefacts, open_store
from wideloop.operators.targets import open_target
from wideloop.operators.targets.base import Target
from wideloop.results import recordings

log = logging.getLogger(__name__)

#: Raw files up to this many bytes in all are kept beside what was read of them.
_KEEP_RAW = 512 * 1024**2
#: A rank's file appears within half a second of the dump on a local disk; a shared one may take longer to show it.
_PATIENCE_S = 30.0
_POLL_S = 0.25
#: Ranks write 7 GB each at worst, to a disk that may be a network's.
_DUMP_S = 300.0


def dump(target_name: str, name: str, run: Run) -> dict[str, str]:
    """Stop recording, have every worker write, and store it; returns the URI of the recording by component.

    A worker that has written is not called again: writing resets its counts. Empty for a deployment without recorder.

    Raises:
        TargetError: a worker wrote no recording, or not all of its ranks did.
        Refused: a file is not a recording of this deployment.
    """
    target = open_target(target_name)
    spec = target.spec(name)
    recorder = get_engine(spec.engine).recorder
    if recorder is None or spec.record_experts is None:
        log.info("%s records no experts: nothing is collected", name)
        return {}
    return {component: _keep(target, spec, component, recorder, run) for component in target.endpoints(name).control}


def kept_recordings(spec: DeploymentSpec, run: Run) -> dict[str, str]:
    """What :func:`dump` kept of a deployment, also of one that is gone; empty unless every worker's is there."""
    kept = artefacts().list("cycles", run.cycle_id, "recordings", spec.name)
    recordings = {Path(uri).stem: uri for uri in kept if uri.endswith(".npz")}
    roles = {worker.role for worker in spec.workers}
    expected = {c.name for c in get_engine(spec.engine).components(spec) if c.role in roles}
    return recordings if expected <= recordings.keys() else {}


def _keep(target: Target, spec: DeploymentSpec, component: str, recorder: ExpertRecorder, run: Run) -> str:
    worker = _worker(spec, component)
    expected = ranks_writing(spec, worker)
    files = _latest(target.recordings(spec.name, component), recorder)
    if len(files) < expected:
        target.call_all(spec.name, component, recorder.stop_path)
        target.call_all(spec.name, component, recorder.dump_path, timeout_s=_DUMP_S)
        files = _awaited(target, spec.name, component, recorder, expected)
    keep, parts = artefacts(), ("cycles", run.cycle_id, "recordings", spec.name)
    raw = [keep.put_file(f, *parts, component, f.name) for f in files] if _bytes(files) <= _KEEP_RAW else []
    recording = recordings.read_dumps(
        files,
        worker.role,
        layers=spec.model.num_layers,
        experts=spec.model.num_experts,
        ranks=expected if expected > 1 else None,
        top_k=spec.model.top_k,
        copies=recorder.copies(worker),
        decode_at_most=_decode_at_most(spec, worker, recorder),
        provenance={
            "model": spec.model.name,
            "engine": spec.engine,
            "engine_version": spec.engine_version,
            "simulated": is_simulated(spec.engine),
            "cycle": run.cycle_id,
            "workload": _workload(run),
            "deployment": spec.name,
            "spec_fingerprint": spec.fingerprint,
            "component": component,
            "recorder": spec.record_experts,
            "ranks": worker.layout.tp,
            "ep": worker.layout.ep,
            "redundant_experts": worker.knobs.redundant_experts,
            "expert_placement": worker.knobs.expert_placement,
            "raw": raw,
        },
    )
    scratch = settings().home / "scratch" / run.cycle_id
    scratch.mkdir(parents=True, exist_ok=True)
    local = recordings.save(recording, scratch / f"{spec.name}-{component}.npz")
    return keep.put_file(local, *parts, f"{component}.npz")


def _workload(run: Run) -> str | None:
    """What the cycle was asked to serve; None for a run that keeps no cycle."""
    with open_store() as store:
        cycle = store.cycle(run.cycle_id)
    if cycle is None or "workload" not in cycle.request:
        return None
    workload = Workload.model_validate(cycle.request["workload"])
    levels = ", ".join(map(str, workload.concurrency))
    return (
        f"ISL {workload.isl} / OSL {workload.osl}, concurrency {levels}, seed {workload.seed} ({workload.fingerprint})"
    )


def ranks_writing(spec: DeploymentSpec, worker: WorkerSpec) -> int:
    """How many files a dump of ``worker`` has: one for all ranks where the recorder adds them up itself."""
    return 1 if spec.record_experts in (None, "stat", "stat_approx") else worker.layout.tp


def _worker(spec: DeploymentSpec, component: str) -> WorkerSpec:
    return next(w for w in spec.workers if component == w.role or component.startswith(f"{w.role}-"))


def _awaited(target: Target, name: str, component: str, recorder: ExpertRecorder, expected: int) -> list[Path]:
    deadline = time.monotonic() + _PATIENCE_S
    while len(files := _latest(target.recordings(name, component), recorder)) < expected:
        if time.monotonic() >= deadline:
            raise TargetError(
                f"{component} of {name} was asked for its expert recording, and {len(files)} of {expected} ranks wrote"
                " one. Its log says why, or that SGLANG_EXPERT_DISTRIBUTION_RECORDER_DIR is another folder"
            )
        time.sleep(_POLL_S)
    return files


def _latest(files: list[Path], recorder: ExpertRecorder) -> list[Path]:
    """The newest file of each rank; ``files`` are oldest first."""
    return list({recorder.rank(file.name): file for file in files}.values())


def _bytes(files: list[Path]) -> int:
    return sum(file.stat().st_size for file in files)


def _decode_at_most(spec: DeploymentSpec, worker: WorkerSpec, recorder: ExpertRecorder) -> int | None:
    """Counts of a pass that may have decoded only: up to the largest captured batch of all attention-DP ranks."""
    batch = worker.knobs.cuda_graph_max_bs
    if worker.role != "aggregated" or batch is None:
        return None
    return batch * worker.layout.dp * spec.model.top_k * recorder.copies(worker)
