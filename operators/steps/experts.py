"""Collect expert recordings of a deployment, say what they show, and place experts by them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from manifests.deployment import DeploymentSpec, WorkerSpec
from manifests.engines import engine
from manifests.errors import TargetError, WideloopError
from operators.request import Request
from operators.settings import settings
from operators.steps.plan import open_study
from operators.steps.run import Run, artefacts, open_store, stage
from operators.targets import target
from results import recordings as recording_files
from results.records import Measurement, Recording
from tuning.placement import balancedness, place, trivial
from tuning.space import Placements, redundant_experts

_INDEX = "placements.json"


def dump(target_name: str, name: str, run: Run) -> dict[str, str]:
    """Stop recording, have every worker write, and keep the files; returns URI by component.

    A worker that has written is not asked again: writing starts its counts from zero.

    Raises:
        TargetError: a worker wrote no recording.
    """
    where = target(target_name)
    serving = engine(where.spec(name).engine)
    uris = {}
    for component in where.endpoints(name).control:
        files = where.recordings(name, component)
        if not files:
            where.call(name, component, serving.record_stop_path)
            where.call(name, component, serving.record_dump_path)
            files = where.recordings(name, component)
        if not files:
            raise TargetError(f"{component} of {name} was asked for its expert recording and wrote none")
        uris[component] = artefacts().put_file(files[-1], "cycles", run.cycle_id, "recordings", name, f"{component}.pt")
    return uris


def analyse(params: Mapping[str, Any], recordings: Mapping[str, str], run: Run) -> Placements:
    """Judge the recordings of each role and make a placement for every redundancy of the sweep."""
    request = Request.from_params(params)
    spec = request.spec("analyse")
    files: dict[str, str] = {}
    with stage(run, "experts"):
        for worker in spec.workers:
            uris = [uri for component, uri in sorted(recordings.items()) if component.startswith(worker.role)]
            counts = _counts(uris, run)
            placed = _place(request, worker, counts, run)
            files.update(placed)
            _record(spec, worker, counts, uris[0], run)
        keep = artefacts()
        keep.put_json(files, "cycles", run.cycle_id, _INDEX)
    return placements(run)


def _counts(uris: list[str], run: Run) -> npt.NDArray[np.int64]:
    """Tokens by [layer, expert], summed over the workers of a role."""
    scratch = settings().home / "scratch" / run.cycle_id
    total: npt.NDArray[np.int64] | None = None
    for uri in uris:
        counts = recording_files.read(artefacts().get_file(uri, scratch / Path(uri).name)).total
        total = counts if total is None else total + counts
    if total is None:
        raise TargetError("no expert recording was kept")
    return total


def _place(request: Request, worker: WorkerSpec, counts: npt.NDArray[np.int64], run: Run) -> dict[str, str]:
    """Make and keep a placement for each number of slots in the space; returns URI by key."""
    low, high = open_study(request, run).space.redundant_slots
    uris = {}
    scratch = settings().home / "scratch" / run.cycle_id
    scratch.mkdir(parents=True, exist_ok=True)
    for slots in range(int(low), int(high) + 1):
        redundant = redundant_experts(worker, slots)
        key = Placements.key(worker.role, redundant)
        local = scratch / f"{key}.json"
        local.write_text(place(counts.astype(float), worker.layout.ep, redundant).to_json())
        digest = hashlib.sha256(local.read_bytes()).hexdigest()[:8]
        uris[key] = artefacts().put_file(local, "cycles", run.cycle_id, "placements", f"{key}-{digest}.json")
    return uris


def _record(spec: DeploymentSpec, worker: WorkerSpec, counts: npt.NDArray[np.int64], artefact: str, run: Run) -> None:
    ep = worker.layout.ep
    redundant = worker.knobs.redundant_experts
    load = counts.astype(float)
    plain = balancedness(load, trivial(counts.shape[0], spec.model.num_experts, redundant, ep))
    placed = balancedness(load, place(load, ep, redundant))
    used = counts.sum(axis=1) > 0
    recording = Recording(
        cycle_id=run.cycle_id,
        role=worker.role,
        simulated=engine(spec.engine).simulated,
        artefact=artefact,
        layers=int(used.sum()),
        experts=counts.shape[1],
        tokens=recording_files.tokens(counts, spec.model.top_k, engine(spec.engine).recorded_copies(worker)),
        ep=ep,
        balancedness=float(plain[used].mean()),
        balancedness_placed=float(placed[used].mean()),
        created_at=datetime.now(UTC),
    )
    with open_store() as store:
        store.put(recording)


def placements(run: Run) -> Placements:
    """The cycle's placements as local files; none when nothing was recorded."""
    keep = artefacts()
    uri = next((u for u in keep.list("cycles", run.cycle_id) if u.endswith(f"/{_INDEX}")), None)
    if uri is None:
        return Placements()
    folder = settings().home / "placements" / run.cycle_id
    files = {}
    for key, kept in keep.read_json(uri).items():
        local = folder / Path(kept).name
        if not local.exists():
            # A copy that was cut short must not pass for the whole.
            keep.get_file(kept, local.with_suffix(".part")).replace(local)
        files[key] = str(local)
    return Placements(files=files)


def compare(run: Run) -> dict[str, Any]:
    """Throughput and latency with the experts in order and placed, at each level; kept as an artefact.

    Raises:
        WideloopError: a side was not measured, or not in a way that can be believed.
    """
    with open_store() as store:
        found = store.measurements(cycle_id=run.cycle_id, purpose="experts")
        recordings = store.recordings(run.cycle_id)
    by_label = {label: {m.concurrency: m for m in found if m.label == label} for label in ("in order", "placed")}
    levels = sorted(by_label["in order"].keys() & by_label["placed"].keys())
    broken = sorted({f"{m.label} at {m.concurrency}: {g.name}" for m in found for g in m.gates if not g.ok})
    if broken or not levels:
        raise WideloopError(f"nothing to compare: {'; '.join(broken) or 'no level was measured on both sides'}")
    comparison = {
        "simulated": any(m.simulated for m in found),
        "balancedness": {r.role: [r.balancedness, r.balancedness_placed] for r in recordings},
        "levels": [_difference(by_label["in order"][c], by_label["placed"][c]) for c in levels],
    }
    artefacts().put_json(comparison, "cycles", run.cycle_id, "experts.json")
    return comparison


def _difference(before: Measurement, after: Measurement) -> dict[str, float]:
    return {
        "concurrency": before.concurrency,
        "output_tok_s_in_order": before.output_tok_s,
        "output_tok_s_placed": after.output_tok_s,
        "gain": after.output_tok_s / before.output_tok_s - 1,
        "tpot_p99_ms_in_order": before.tpot_ms_p99,
        "tpot_p99_ms_placed": after.tpot_ms_p99,
    }
