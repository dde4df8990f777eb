"""Everything that a cycle's page shows, read from the store once. The page and the JSON document are made from it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel
from wideloop.manifests.workload import Slo
from wideloop.results.dashboard.charts import pareto
from wideloop.results.dashboard.headline import Headline, Progress, headline, progress
from wideloop.results.dashboard.kinds import Kind, kind_of
from wideloop.results.dashboard.knobs import KnobChange, changes, compared, label
from wideloop.results.dashboard.levels import LevelRow, levels
from wideloop.results.dashboard.provenance import Provenance, assets_of, provenance
from wideloop.results.dashboard.timeline import Timeline, timeline
from wideloop.results.dashboard.trials import TrialRow, rows, searched_by, slo_of
from wideloop.results.records import Cycle, Measurement, Recommendation, Recording, Trial
from wideloop.results.store import Store

SIMULATED = (
    "SIMULATED: a performance model timed these results, no GPU was involved. They show how the pipeline works,"
    " not how fast any hardware is."
)


class SearchedKnob(BaseModel):
    """A knob that tells the trials apart: its key in their ``knobs``, its title, and whose it is."""

    key: str
    title: str
    unit: str
    role: str


class CycleSummary(BaseModel):
    """One line of the list of cycles; ``label`` is the configuration that the cycle recommends to use."""

    cycle: Cycle
    recommendation: Recommendation | None
    label: str


class CycleView(BaseModel):
    """One cycle. ``revision`` changes whenever the store's records of it do."""

    notice: str | None
    revision: str
    cycle: Cycle
    kind: Kind
    headline: Headline
    progress: Progress
    recommendation: Recommendation | None
    knobs: list[KnobChange]
    searched: list[SearchedKnob]
    slo: Slo | None
    trials: list[TrialRow]
    levels: list[LevelRow]
    timeline: Timeline
    recordings: list[Recording]
    provenance: Provenance
    charts: dict[Literal["gpu", "decode_gpu"], dict[str, Any]]
    measurements: list[Measurement]
    raw_trials: list[Trial]


def cycle_view(store: Store, cycle_id: str, now: datetime | None = None) -> CycleView | None:
    """Read a cycle; None if the store has no cycle of that name."""
    cycle = store.cycle(cycle_id)
    if cycle is None:
        return None
    stages = store.stages(cycle_id)
    trials = store.trials(cycle_id=cycle_id)
    measurements = store.measurements(cycle_id=cycle_id)
    recommendation = store.recommendation(cycle_id)
    concluded = [recommendation] if recommendation else []
    recordings = store.recordings(cycle_id)
    assets = assets_of(cycle, measurements, store.assets())
    slo = slo_of(cycle)
    dimensions = searched_by(trials)
    shown = rows(trials, measurements, slo, recommendation.trial_number if recommendation else None, dimensions)
    simulated = cycle.simulated or any(m.simulated for m in measurements) or any(r.simulated for r in recordings)
    measured = levels(measurements)
    moment = now or datetime.now(UTC)
    return CycleView(
        notice=SIMULATED if simulated else None,
        revision=_revision([cycle, *stages, *trials, *measurements, *recordings, *assets, *concluded]),
        cycle=cycle,
        kind=kind_of(cycle.dag_id),
        headline=headline(cycle, stages, shown, recommendation, measured, recordings),
        progress=progress(cycle, stages, shown),
        recommendation=recommendation,
        knobs=changes(recommendation.default_knobs, recommendation.knobs, dimensions) if recommendation else [],
        searched=[SearchedKnob(key=d.key, title=d.title, unit=d.unit, role=d.role) for d in dimensions],
        slo=slo,
        trials=shown,
        levels=measured,
        timeline=timeline(cycle, stages, trials, moment),
        recordings=recordings,
        provenance=provenance(cycle, shown, measurements, assets),
        charts={
            "gpu": pareto(shown, measurements, simulated=simulated, per="gpu"),
            "decode_gpu": pareto(shown, measurements, simulated=simulated, per="decode_gpu"),
        },
        measurements=measurements,
        raw_trials=trials,
    )


def summaries(store: Store, limit: int = 50) -> list[CycleSummary]:
    """The newest cycles first."""
    listed = []
    for cycle in store.cycles(limit):
        recommendation = store.recommendation(cycle.cycle_id)
        listed.append(CycleSummary(cycle=cycle, recommendation=recommendation, label=_to_use(recommendation)))
    return listed


def _to_use(recommendation: Recommendation | None) -> str:
    if recommendation is None:
        return ""
    knobs = recommendation.default_knobs if recommendation.verdict == "keep default" else recommendation.knobs
    return label(knobs, compared(recommendation.default_knobs, recommendation.knobs))


def _revision(records: Sequence[BaseModel]) -> str:
    digest = hashlib.sha256()
    for record in records:
        digest.update(record.model_dump_json().encode())
    return digest.hexdigest()[:16]
