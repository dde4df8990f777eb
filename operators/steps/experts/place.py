"""Analyse recordings, and place experts by them."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from wideloop.manifests.deployment import DeploymentSpec, Knobs, WorkerSpec
from wideloop.manifests.errors import TargetError
from wideloop.manifests.hardware import Role
from wideloop.operators.request import Request, is_placed, is_simulated, why_not_placed
from wideloop.operators.settings import settings
from wideloop.operators.steps.plan import open_study
from wideloop.operators.steps.run import Run, artefacts, open_store, skip_stage, stage
from wideloop.results import recordings as recording_files
from wideloop.results.experts.analysis import role_report
from wideloop.results.experts.role_report import RoleReport
from wideloop.results.recordings import ExpertRecording
from wideloop.results.records import Recording
from wideloop.tuning.placement import place
from wideloop.tuning.placement.files import to_sglang
from wideloop.tuning.space import Placements, redundancies

log = logging.getLogger(__name__)

_INDEX = "placements.json"
_CHOSEN = "redundancy.json"


def analyse(params: Mapping[str, Any], recordings: Mapping[str, str], run: Run) -> Placements:
    """Analyse the recordings of each role and make a placement for every redundancy of the sweep.

    The stage is skipped where nothing can be placed: experts stay in the engine's own order.
    """
    request = Request.from_params(params)
    spec = request.spec("analyse")
    if recordings:  # Of a comparison, whose workers may be started otherwise so that they can be recorded.
        spec = request.comparable(spec)
    cannot_place = why_not_placed(spec)
    if cannot_place is not None:
        skip_stage(run, "experts", cannot_place)
        return Placements()
    files: dict[str, str] = {}
    chosen: dict[str, int] = {}
    keep = artefacts()
    with stage(run, "experts"):
        for worker in spec.workers:
            uris = [uri for component, uri in sorted(recordings.items()) if component.startswith(worker.role)]
            recording = recorded(uris, run)
            judged = role_report(spec, worker, recording, request.workload)
            keep.put_json(judged.model_dump(mode="json"), "cycles", run.cycle_id, "experts", f"{worker.role}.json")
            for report in (judged, *judged.phases):
                log.info("%s: %s", report.role, _summary(report))
            if is_placed(worker):
                chosen[worker.role] = judged.redundant
                files.update(_place(request, worker, recording, judged.redundant, run))
            _record(spec, worker, recording, judged, uris[0], run)
        keep.put_json(files, "cycles", run.cycle_id, _INDEX)
        keep.put_json(chosen, "cycles", run.cycle_id, _CHOSEN)
    return placements(run)


def _summary(report: RoleReport) -> str:
    """The verdict, for the task's log."""
    return report.note if report.own is None else f"{report.own.text}: " + "; ".join(report.own.reasons)


def recorded(uris: list[str], run: Run) -> ExpertRecording:
    """The recordings at ``uris``, of workers of one role, merged into one.

    Raises:
        TargetError: there are none.
    """
    if not uris:
        raise TargetError("no expert recording was kept")
    scratch = settings().home / "scratch" / run.cycle_id
    recordings = []
    for number, uri in enumerate(uris):
        local = scratch / f"{number}-{Path(uri).name}"
        recordings.append(recording_files.load(artefacts().get_file(uri, local)))
    return recording_files.merged(recordings)


def _place(request: Request, worker: WorkerSpec, recording: ExpertRecording, advised: int, run: Run) -> dict[str, str]:
    """Make and keep a placement for each number of slots in the space and the advised one; returns URI by key."""
    load = recording.total.astype(float)
    counts = {advised} | redundancies(open_study(request, run).space, worker)
    return dict(_kept(worker.role, worker.layout.ep, load, redundant, run) for redundant in sorted(counts))


def _kept(role: Role, ep: int, load: Any, redundant: int, run: Run) -> tuple[str, str]:
    scratch = settings().home / "scratch" / run.cycle_id
    scratch.mkdir(parents=True, exist_ok=True)
    key = Placements.key(role, redundant)
    local = scratch / f"{key}.json"
    local.write_text(to_sglang(place(load, ep, redundant)))
    digest = hashlib.sha256(local.read_bytes()).hexdigest()[:8]
    return key, artefacts().put_file(local, "cycles", run.cycle_id, "placements", f"{key}-{digest}.json")


def _record(
    spec: DeploymentSpec, worker: WorkerSpec, recording: ExpertRecording, judged: RoleReport, artefact: str, run: Run
) -> None:
    summary = Recording(
        cycle_id=run.cycle_id,
        role=worker.role,
        simulated=is_simulated(spec.engine),
        artefact=artefact,
        layers=recording.layers - len(recording.dense),
        experts=recording.experts,
        tokens=recording.tokens(spec.model.top_k),
        ep=worker.layout.ep,
        balancedness=sum(judged.before) / len(judged.before),
        balancedness_placed=sum(judged.after) / len(judged.after),
        created_at=datetime.now(UTC),
    )
    with open_store() as store:
        store.put(summary)


def placements(run: Run) -> Placements:
    """The cycle's placements as local files; none when nothing was recorded."""
    keep = artefacts()
    uri = _uri(run, _INDEX)
    if uri is None:
        return Placements()
    folder = settings().home / "placements" / run.cycle_id
    files = {}
    for key, kept in keep.read_json(uri).items():
        local = folder / Path(kept).name
        if not local.exists():
            # Copy under another name first: an interrupted copy must not be taken for the file.
            keep.get_file(kept, local.with_suffix(".part")).replace(local)
        files[key] = str(local)
    return Placements(files=files)


def placed_spec(request: Request, spec: DeploymentSpec, run: Run) -> DeploymentSpec:
    """``spec`` with experts placed as the request wants it: by the cycle's recording, or by the engine as it serves.

    Workers whose experts cannot be placed stay as they are.

    Raises:
        TargetError: nothing was recorded to place by.
    """
    if request.eplb == "online":
        return request.online(spec)
    if why_not_placed(spec) is not None:
        return spec
    kept = placements(run)
    uri = _uri(run, _CHOSEN)
    chosen: dict[str, int] = artefacts().read_json(uri) if uri else {}

    def knobs(worker: WorkerSpec) -> Knobs:
        redundant = chosen.get(worker.role, worker.knobs.redundant_experts)
        file = kept.get(worker.role, redundant)
        if file is None:
            raise TargetError(f"no placement of {redundant} redundant experts was made for {worker.role}")
        changed: dict[str, Any] = {"eplb": "static", "redundant_experts": redundant, "expert_placement": file}
        return worker.knobs.changed(**changed)

    return spec.with_knobs(spec.name, {worker.role: knobs(worker) for worker in spec.workers if is_placed(worker)})


def _uri(run: Run, name: str) -> str | None:
    return next((u for u in artefacts().list("cycles", run.cycle_id) if u.endswith(f"/{name}")), None)
